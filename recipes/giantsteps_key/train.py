"""GiantSteps key: which of 24 keys a track of electronic dance music has.

python recipes/giantsteps_key/train.py hparams/giantsteps_key.yaml --encoder EXPORT

--data_folder is the data set's folder; without it a replica is made once and used. Any top-level
key of the yaml is an option. README.md describes the protocol.
"""

from pathlib import Path

import speechbrain as sb
from speechbrain.utils.distributed import run_on_main

from speechbrain_music.brains.base import join_processes
from speechbrain_music.evaluation.chunks import cut_splits
from speechbrain_music.evaluation.features import FeatureCache, extract_features
from speechbrain_music.evaluation.fine_tuning import fine_tune
from speechbrain_music.evaluation.probes import (
    ProbeBrain,
    choose_on_validation,
    evaluate_on_test,
    train_probes,
)
from speechbrain_music.evaluation.protocol import is_finished, load_evaluation
from speechbrain_music.evaluation.results import write_results
from speechbrain_music.utils.errors import run_recipe


class KeyBrain(ProbeBrain):
    """Probes that predict one of 24 keys per track, from its clips of 30 s."""


def main(argv):
    """Evaluates an encoder on this task; see the head of this file. Returns the output folder."""
    run = load_evaluation(argv)
    hparams = run.hparams
    join_processes(run.run_opts)
    report, manifests = run_on_main(hparams["prepare"], kwargs={"out": run.output / "manifests"})
    chunks = cut_splits(manifests, hparams)
    caches = [FeatureCache(hparams["feature_folder"], e, chunks.table) for e in run.encoders]
    if run_on_main(is_finished, [run, caches, chunks]):
        return run.output
    sb.create_experiment_directory(run.output, run.hparams_file, run.overrides)
    tested = []
    for cache in caches:  # several encoders are seeds of one system
        features = extract_features(run, cache, chunks)
        probes = train_probes(KeyBrain, features, run)
        best = choose_on_validation(probes)
        if not hparams["freeze_encoder"]:
            best = fine_tune(KeyBrain, best, probes, features, run)
        tested.append((features, probes, best, evaluate_on_test(best)))
    return write_results(run, report, Path(__file__).with_name("published.csv"), tested)


if __name__ == "__main__":
    run_recipe(main)
