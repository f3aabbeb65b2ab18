"""Evaluation of encoders on labelled data: from a task's yaml to results.json and a report."""

from speechbrain_music.evaluation.chunks import cut_splits
from speechbrain_music.evaluation.features import extract_features, make_caches
from speechbrain_music.evaluation.fine_tuning import fine_tune
from speechbrain_music.evaluation.frame_features import FrameCache, cut_tracks
from speechbrain_music.evaluation.frame_results import write_frame_results
from speechbrain_music.evaluation.frames import FrameBrain, predict_test, train_heads
from speechbrain_music.evaluation.probes import (
    ProbeBrain,
    choose_on_validation,
    evaluate_on_test,
    train_probes,
)
from speechbrain_music.evaluation.protocol import begin, open_evaluation, prepare_data
from speechbrain_music.evaluation.results import write_results
from speechbrain_music.evaluation.version_results import write_version_results
from speechbrain_music.evaluation.versions import TransposedCache, VersionBrain, rank_versions
