"""Labels of your own: a column of the table labels.csv is predicted from each recording.

python recipes/labels/train.py hparams/labels.yaml --data_folder FOLDER --label COLUMN --encoder mel

The table is in the folder and has the columns `file` (relative to the folder), `split` (train,
valid or test) and the labels.
"""

from speechbrain_music import evaluation
from speechbrain_music.utils.errors import run_recipe


class LabelBrain(evaluation.ProbeBrain):
    """Probes that predict the label of a recording."""


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
            probes = evaluation.train_probes(LabelBrain, features, run)
            best = evaluation.choose_on_validation(probes)
            if not run.hparams["freeze_encoder"]:
                best = evaluation.fine_tune(LabelBrain, best, probes, features, run)
            tested.append((features, probes, best, evaluation.evaluate_on_test(best)))
        return evaluation.write_results(run, report, tested)


if __name__ == "__main__":
    run_recipe(main)
