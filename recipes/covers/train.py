"""Version identification: which tracks are performances of the same work (cover songs).

python recipes/covers/train.py hparams/covers.yaml --encoder EXPORT

--data_folder is a folder of music with a table of works, or with a folder per work.
"""

from speechbrain_music import evaluation
from speechbrain_music.utils.errors import run_recipe


class CoverBrain(evaluation.VersionBrain):
    """A head that pools chunks into an embedding of the work."""


def main(argv):
    """Evaluates an encoder on this task; see the head of this file. Returns the output folder."""
    with evaluation.open_evaluation(argv, __file__) as run:
        report, manifests = evaluation.prepare_data(run)
        chunks = evaluation.cut_splits(manifests, run.hparams)
        caches = evaluation.make_caches(run, chunks, evaluation.TransposedCache)
        if not evaluation.begin(run, caches, chunks):
            return run.output
        tested = []
        for features in evaluation.extract_features(run, caches, chunks):  # seeds of one system
            tested.append((features, evaluation.rank_versions(CoverBrain, features, run)))
        return evaluation.write_version_results(run, report, tested)


if __name__ == "__main__":
    run_recipe(main)
