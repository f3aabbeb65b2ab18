"""MTG-Jamendo tagging: which genres, instruments, moods or most frequent tags a track has.

python recipes/mtg_tagging/train.py hparams/mtg_genre.yaml --encoder EXPORT

Other yamls: mtg_instrument, mtg_mood, mtg_top50. --data_folder is the data set's folder; without it
a replica is made once and used. Any top-level key of the yaml is an option. Protocol: README.md.
"""

import speechbrain as sb

from speechbrain_music import evaluation
from speechbrain_music.utils.errors import run_recipe


class TrackTaggingBrain(evaluation.ProbeBrain):
    """Probes that predict any of a task's tags per track."""


def main(argv):
    """Evaluates an encoder on this task; see the head of this file. Returns the output folder."""
    with evaluation.open_evaluation(argv, __file__) as run:
        report, manifests = evaluation.prepare_data(run)
        chunks = evaluation.cut_splits(manifests, run.hparams)
        caches = evaluation.make_caches(run, chunks)
        if evaluation.is_finished(run, caches, chunks):
            return run.output
        sb.create_experiment_directory(run.output, run.hparams_file, run.overrides)
        tested = []
        for cache in caches:  # several encoders are seeds of one system
            features = evaluation.extract_features(run, cache, chunks)
            probes = evaluation.train_probes(TrackTaggingBrain, features, run)
            best = evaluation.choose_on_validation(probes)
            if not run.hparams["freeze_encoder"]:
                best = evaluation.fine_tune(TrackTaggingBrain, best, probes, features, run)
            tested.append((features, probes, best, evaluation.evaluate_on_test(best)))
        return evaluation.write_results(run, report, tested)


if __name__ == "__main__":
    run_recipe(main)
