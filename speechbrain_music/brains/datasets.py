"""What training on crops of a corpus reads, from tables of tracks and a recipe's yaml."""

import logging
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from speechbrain_music.brains.base import check_options, plan_steps
from speechbrain_music.dataio.segments import (
    CORPUS,
    TRAIN,
    VALID,
    FrameGrid,
    SegmentDataset,
    split_tracks,
)
from speechbrain_music.models.frontend import BANDS, SAMPLES_PER_TOKEN, STACK, TOKEN_RATE
from speechbrain_music.utils.config import ConfigError, check_ranges

logger = logging.getLogger(__name__)

# Of a yaml, what every recipe reads that trains on crops of a corpus.
READS = set(
    "system data_folder replica_hours train_csv valid_csv valid_share output_folder seed "
    "epoch_counter number_of_epochs max_steps segments_per_epoch batch_size effective_batch "
    "num_workers segment_seconds model features modules opt_class weight_decay lr warmup_steps "
    "learning_rate_factor statistics_segments valid_segments keep_in_memory log_interval "
    "keep_checkpoints".split()
)


class CorpusData(NamedTuple):
    """What a run reads: its tracks, crops of them, held-out pieces, pieces for statistics, hours.

    Example
    -------
    >>> hparams = {"segment_seconds": 2, "valid_segments": 5, "statistics_segments": 3, "seed": 0}
    >>> track = {"wav": ["a"], "start": 0, "stop": 240000, "duration": 10.0}
    >>> table = pd.DataFrame(track)
    >>> data = make_datasets(hparams | {"keep_in_memory": False}, table, table)
    >>> len(data.train), len(data.valid), len(data.pieces), round(data.hours["train"] * 3600)
    (1, 5, 3, 10)
    """

    tracks: pd.DataFrame
    train: SegmentDataset
    valid: SegmentDataset
    pieces: SegmentDataset
    hours: dict


def make_datasets(hparams, train, valid, mask_block=10, augment=False, **masking):
    """Training crops, held-out pieces, and pieces for the corpus's statistics.

    Arguments
    ---------
    hparams : dict
        segment_seconds, valid_segments, statistics_segments, keep_in_memory, seed.
    train, valid : pandas.DataFrame
        Tracks to train on and held-out ones, see `data_prep.manifest.read_manifest`.
    mask_block : int
        Tokens; a track shorter than two blocks is not used, also where nothing is masked, so that
        all recipes have the same statistics of a corpus.
    augment : bool
        Of training crops, see `dataio.augment`.
    **masking
        mask_probability and noise_std of `SegmentDataset`.

    Returns
    -------
    CorpusData
        `hours` of "train" and "valid".

    Raises
    ------
    ConfigError
        If a segment or all tracks are too short.

    Example
    -------
    >>> make_datasets({"segment_seconds": 0.5}, None, None)
    Traceback (most recent call last):
    ...
    speechbrain_music.utils.config.ConfigError: segment_seconds 0.5 holds fewer than two mask \
blocks: take 0.8 or more
    """
    grid = FrameGrid(SAMPLES_PER_TOKEN, STACK, BANDS)
    segment_tokens = round(hparams["segment_seconds"] * TOKEN_RATE)
    least = 2 * mask_block / TOKEN_RATE  # seconds: one block masked, one visible
    if segment_tokens < 2 * mask_block:
        raise ConfigError(
            f"segment_seconds {hparams['segment_seconds']} holds fewer than two mask blocks: "
            f"take {least:g} or more"
        )

    def usable(tracks, name):
        long_enough = tracks["duration"] >= least
        if not long_enough.all():
            logger.warning(f"{(~long_enough).sum()} tracks of {name} are under {least:g} s: unused")
        if not long_enough.any():
            raise ConfigError(f"{name} has no track of {least:g} s or more: add music")
        return tracks[long_enough].reset_index(drop=True)

    def pieces(tracks, most, stream):
        parts = split_tracks(tracks, segment_tokens / TOKEN_RATE, least)
        if len(parts) > most:
            rng = np.random.default_rng([hparams["seed"], stream])
            parts = parts.iloc[np.sort(rng.choice(len(parts), most, replace=False))]
        return parts.reset_index(drop=True)

    dataset = partial(
        SegmentDataset,
        segment_tokens=segment_tokens,
        grid=grid,
        mask_block=mask_block,
        seed=hparams["seed"],
        kept={} if hparams["keep_in_memory"] else None,  # one for all three
        **masking,
    )
    train, valid = usable(train, "train_csv"), usable(valid, "valid_csv")
    return CorpusData(
        train,
        dataset(train, stream=TRAIN, augment=augment),
        dataset(pieces(valid, hparams["valid_segments"], VALID), stream=VALID),
        dataset(pieces(train, hparams["statistics_segments"], CORPUS), stream=CORPUS),
        {name: t["duration"].sum() / 3600 for name, t in (("train", train), ("valid", valid))},
    )


def check_run(hparams, **ranges):
    """Refuses what would fail later, before anything is written; `ranges` as `check_ranges`.

    Raises ConfigError.

    Example
    -------
    >>> check_run({"precision": "fp32", "max_grad_norm": 0})
    Traceback (most recent call last):
    ...
    speechbrain_music.utils.config.ConfigError: max_grad_norm is 0: it must be above 0
    """
    check_options(hparams)
    check_ranges(
        hparams,
        whole="number_of_epochs segments_per_epoch effective_batch batch_size statistics_segments "
        "valid_segments log_interval keep_checkpoints",
        natural="num_workers warmup_steps seed",
        positive="replica_hours segment_seconds lr",
        share="valid_share",
    )
    check_ranges(hparams, **ranges)
    if hparams["data_folder"] == "":
        raise ConfigError("data_folder is empty: pass a folder of music, or leave it out")
    if hparams["max_steps"] is not None:
        check_ranges(hparams, whole="max_steps")


def plan_run(hparams, world_size):
    """`plan_steps` of a yaml.

    Example
    -------
    >>> sizes = {"effective_batch": 8, "batch_size": 2, "segments_per_epoch": 16}
    >>> plan_run(sizes | {"number_of_epochs": 3, "max_steps": None}, world_size=1)
    Plan(accumulation=4, steps_per_epoch=2, total_steps=6)
    """
    return plan_steps(
        hparams["effective_batch"],
        hparams["batch_size"],
        world_size,
        hparams["segments_per_epoch"],
        hparams["number_of_epochs"],
        hparams["max_steps"],
    )
