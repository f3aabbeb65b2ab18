"""Data sets of a pre-training run, from its manifests and a recipe's yaml."""

import logging
import os
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from speechbrain_music.dataio.audio import SAMPLE_RATE
from speechbrain_music.dataio.segments import CORPUS, TRAIN, VALID, SegmentDataset, split_tracks
from speechbrain_music.models.frontend import TOKEN_RATE
from speechbrain_music.utils.errors import UserError

logger = logging.getLogger(__name__)


class CorpusData(NamedTuple):
    """Data sets of a run: training crops, held-out pieces, pieces for the corpus's statistics."""

    tracks: pd.DataFrame  # to train on
    train: SegmentDataset
    valid: SegmentDataset
    pieces: SegmentDataset
    hours: dict  # of "train" and "valid"


def make_datasets(hparams, train, valid, mask_block=10, augment=False, **masking):
    """Make the data sets from manifests and a recipe's yaml.

    A track shorter than two blocks is not used, even if nothing is masked, so that all recipes have
    the same statistics of a corpus; a `UserError` says if all are. `augment` applies to training
    crops; `masking` is the mask_probability and noise_std of `SegmentDataset`.
    """
    segment_tokens = round(hparams["segment_seconds"] * TOKEN_RATE)
    least = 2 * mask_block / TOKEN_RATE  # seconds: one block masked, one visible
    if segment_tokens < 2 * mask_block:
        raise UserError(
            f"segment_seconds {hparams['segment_seconds']} holds fewer than two mask blocks: "
            f"set {least:g} or more"
        )

    def usable(tracks, name):
        long_enough = tracks["duration"] >= least
        if not long_enough.all():
            short = (~long_enough).sum()
            logger.warning(f"{short} tracks of {name} are shorter than {least:g} s: not used")
        if not long_enough.any():
            raise UserError(f"{name} has no track of {least:g} s or more: add music")
        return tracks[long_enough].reset_index(drop=True)

    def pieces(tracks, most, stream):
        parts = split_tracks(tracks, segment_tokens / TOKEN_RATE, least)
        if len(parts) > most:
            rng = np.random.default_rng([hparams["seed"], stream])
            parts = parts.iloc[np.sort(rng.choice(len(parts), most, replace=False))]
        return parts.reset_index(drop=True)

    train, valid = usable(train, "train_csv"), usable(valid, "valid_csv")
    hours = {name: t["duration"].sum() / 3600 for name, t in (("train", train), ("valid", valid))}
    dataset = partial(
        SegmentDataset,
        segment_tokens=segment_tokens,
        mask_block=mask_block,
        seed=hparams["seed"],
        # One for all three.
        kept={} if hparams["keep_in_memory"] and _fits(hours, hparams["num_workers"]) else None,
        **masking,
    )
    return CorpusData(
        train,
        dataset(train, stream=TRAIN, augment=augment),
        dataset(pieces(valid, hparams["valid_segments"], VALID), stream=VALID),
        dataset(pieces(train, hparams["statistics_segments"], CORPUS), stream=CORPUS),
        hours,
    )


def _fits(hours, workers):
    """Whether the decoded tracks, which each worker keeps, take at most a quarter of all memory."""
    processes = max(1, workers) * int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    needed = sum(hours.values()) * 3600 * SAMPLE_RATE * 4 * processes
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory / 4:
        logger.warning(
            f"keep_in_memory is turned off: decoded tracks take {needed / 1e9:.1f} GB, more than a "
            f"quarter of this machine's {memory / 1e9:.1f} GB"
        )
    return needed <= memory / 4
