"""VocalSet: which of twenty singers sings in a recording, or with which of ten techniques.

python recipes/vocalset/train.py hparams/vocalset_singer.yaml --encoder EXPORT
python recipes/vocalset/train.py hparams/vocalset_technique.yaml --encoder EXPORT
"""

from speechbrain_music import evaluation
from speechbrain_music.utils.errors import run_recipe


class SingingBrain(evaluation.ProbeBrain):
    """Probes that predict the singer or the technique of a recording, from its chunks of 3 s."""


def main(argv):
    """Evaluates an encoder on this task; see the head of this file. Returns the output folder."""
    with evaluation.open_evaluation(argv, __file__) as run:
        report, manifests = evaluation.prepare_data(run)
        chunks = evaluation.cut_splits(manifests, run.hparams)
        caches = evaluation.make_caches(run, chunks)
        if not evaluation.begin(run, caches, chunks):
            return run.output
        tested = []
        for features in evaluation.extract_features(run, caches, chunks):  # seeds of one system
            probes = evaluation.train_probes(SingingBrain, features, run)
            best = evaluation.choose_on_validation(probes)
            if not run.hparams["freeze_encoder"]:
                best = evaluation.fine_tune(SingingBrain, best, probes, features, run)
            tested.append((features, probes, best, evaluation.evaluate_on_test(best)))
        return evaluation.write_results(run, report, tested)


if __name__ == "__main__":
    run_recipe(main)
