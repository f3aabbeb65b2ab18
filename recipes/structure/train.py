"""Structure: sections of whole tracks, their boundaries and functions.

python recipes/structure/train.py hparams/harmonix_structure.yaml --encoder EXPORT
"""

from speechbrain_music import evaluation
from speechbrain_music.utils.errors import run_recipe


class StructureBrain(evaluation.FrameBrain):
    """Heads that predict sections and their boundaries."""


def main(argv):
    """Evaluates an encoder on this task; see the head of this file. Returns the output folder."""
    with evaluation.open_evaluation(argv, __file__) as run:
        report, manifests = evaluation.prepare_data(run)
        tracks = evaluation.cut_tracks(manifests, run.hparams)
        caches = evaluation.make_caches(run, tracks, evaluation.FrameCache)
        if not evaluation.begin(run, caches, tracks):
            return run.output
        tested = []
        for features in evaluation.extract_features(run, caches, tracks):  # seeds of one system
            heads = evaluation.train_heads(StructureBrain, features, run)
            tested.append((features, heads, evaluation.predict_test(heads, features)))
        return evaluation.write_frame_results(run, report, tested)


if __name__ == "__main__":
    run_recipe(main)
