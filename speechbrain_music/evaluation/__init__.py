"""Evaluation of encoders on labelled data: from a task's yaml to results.json and a report."""

from speechbrain_music.evaluation.chunks import cut_splits
from speechbrain_music.evaluation.features import extract_features, make_caches
from speechbrain_music.evaluation.fine_tuning import fine_tune
from speechbrain_music.evaluation.probes import (
    ProbeBrain,
    choose_on_validation,
    evaluate_on_test,
    train_probes,
)
from speechbrain_music.evaluation.protocol import is_finished, open_evaluation, prepare_data
from speechbrain_music.evaluation.results import write_results

__all__ = [
    "ProbeBrain",
    "choose_on_validation",
    "cut_splits",
    "evaluate_on_test",
    "extract_features",
    "fine_tune",
    "is_finished",
    "make_caches",
    "open_evaluation",
    "prepare_data",
    "train_probes",
    "write_results",
]
