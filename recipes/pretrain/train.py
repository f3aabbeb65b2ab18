"""BEST-RQ pre-training of a music encoder.

python recipes/pretrain/train.py hparams/brn_sum.yaml --data_folder /my/music
python recipes/pretrain/train.py hparams/brn_sum_tiny.yaml  # on composed music, made once
torchrun --nproc_per_node=8 recipes/pretrain/train.py hparams/brn_sum.yaml --data_folder /my/music

Any top-level key of the yaml can be set on the command line. The same command resumes.
"""

import logging
from functools import partial
from pathlib import Path

import numpy as np
import speechbrain as sb
from speechbrain.utils.distributed import run_on_main

from speechbrain_music.brains.base import check_options, join_processes, plan_steps
from speechbrain_music.brains.corpus import prepare_statistics, statistics_key
from speechbrain_music.brains.pretrain import PretrainBrain
from speechbrain_music.data_prep.folder import prepare_folder
from speechbrain_music.data_prep.manifest import read_manifest
from speechbrain_music.data_prep.replica.corpus import make_corpus
from speechbrain_music.dataio.loading import make_loader
from speechbrain_music.dataio.sampler import DrawSampler, every_row
from speechbrain_music.dataio.segments import (
    CORPUS,
    TRAIN,
    VALID,
    FrameGrid,
    SegmentDataset,
    collate,
    split_tracks,
)
from speechbrain_music.models.frontend import BANDS, SAMPLES_PER_TOKEN, STACK, TOKEN_RATE
from speechbrain_music.utils.checkpoints import AtomicCheckpointer
from speechbrain_music.utils.config import ConfigError, check_ranges, load_experiment
from speechbrain_music.utils.errors import run

logger = logging.getLogger(__name__)

REPLICA = "data/replica/corpus_{:g}h"  # music composed for who has none
READS = set(
    "system data_folder replica_hours train_csv valid_csv valid_share output_folder seed "
    "epoch_counter "
    "number_of_epochs max_steps segments_per_epoch batch_size effective_batch num_workers "
    "segment_seconds mask_block mask_probability noise_std reconstruction_weight model features "
    "modules opt_class weight_decay lr warmup_steps learning_rate_factor statistics_segments "
    "valid_segments keep_in_memory augment log_interval keep_checkpoints".split()
)


class BestRQBrain(PretrainBrain):
    """The method: hide blocks of log-mel, predict their tokens and rebuild them."""

    def compute_forward(self, batch, stage):
        """The prediction, and the normalised log-mel (B, 4 T, 128) with (B,) lengths in tokens."""
        mel, lengths = self.modules.features(batch.wave, batch.samples)
        return self.modules.model(mel, lengths, batch.mask, batch.noise), mel, lengths

    def compute_objectives(self, outputs, batch, stage):
        """Cross-entropy plus weighted mel error, summed over masked tokens."""
        prediction = outputs[0]
        return prediction.token_loss + self.hparams.reconstruction_weight * prediction.mel_loss


def make_datasets(hparams):
    """Training crops, held-out pieces and pieces for the corpus's statistics; hours of the two."""
    grid = FrameGrid(SAMPLES_PER_TOKEN, STACK, BANDS)
    segment_tokens = round(hparams["segment_seconds"] * TOKEN_RATE)
    least = 2 * hparams["mask_block"] / TOKEN_RATE  # seconds: one block masked, one visible
    if segment_tokens < 2 * hparams["mask_block"]:
        raise ConfigError(
            f"segment_seconds {hparams['segment_seconds']} holds fewer than two mask blocks: "
            f"take {least:g} or more"
        )

    def usable(name):
        tracks = read_manifest(hparams[name], hparams["data_folder"])
        long_enough = tracks["duration"] >= least
        if not long_enough.all():
            logger.warning(f"{(~long_enough).sum()} tracks of {name} are under {least:g} s: unused")
        if not long_enough.any():
            raise ConfigError(f"{hparams[name]} has no track of {least:g} s or more: add music")
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
        mask_block=hparams["mask_block"],
        mask_probability=hparams["mask_probability"],
        noise_std=hparams["noise_std"],
        seed=hparams["seed"],
        kept={} if hparams["keep_in_memory"] else None,  # one for all three
    )
    train, held_out = usable("train_csv"), usable("valid_csv")
    valid = pieces(held_out, hparams["valid_segments"], VALID)
    corpus = pieces(train, hparams["statistics_segments"], CORPUS)
    hours = {name: t["duration"].sum() / 3600 for name, t in (("train", train), ("valid", valid))}
    return (
        (train, dataset(train, stream=TRAIN, augment=hparams["augment"])),
        dataset(valid, stream=VALID),
        dataset(corpus, stream=CORPUS),
        hours,
    )


def check(hparams):
    """Refuses what would fail later, before anything is written."""
    check_options(hparams)
    check_ranges(
        hparams,
        whole="number_of_epochs segments_per_epoch effective_batch batch_size statistics_segments "
        "valid_segments log_interval keep_checkpoints mask_block",
        natural="num_workers warmup_steps seed",
        positive="replica_hours segment_seconds lr noise_std reconstruction_weight",
        share="mask_probability valid_share",
    )
    if hparams["data_folder"] == "":
        raise ConfigError("data_folder is empty: pass a folder of music, or leave it out")
    if hparams["max_steps"] is not None:
        check_ranges(hparams, whole="max_steps")


def main(argv):
    """Trains, resumes or finds all done, then exports; see this file's head for the arguments."""
    hparams_file, hparams, run_opts, overrides = load_experiment(argv, READS)
    check(hparams)
    rank, world_size = join_processes(run_opts)
    plan = plan_steps(
        hparams["effective_batch"],
        hparams["batch_size"],
        world_size,
        hparams["segments_per_epoch"],
        hparams["number_of_epochs"],
        hparams["max_steps"],
    )
    own_manifests = {"train_csv", "valid_csv"} & set(overrides)
    if hparams["data_folder"] is None:
        if own_manifests:
            raise ConfigError("data_folder is not set: pass what stands for $data_root")
        hours = hparams["replica_hours"]
        hparams["data_folder"] = folder = REPLICA.format(hours)
        logger.warning(f"No data_folder: {hours:g} hours of composed music in {folder} stand in")
        run_on_main(make_corpus, kwargs={"out": folder, "hours": hours})
    if not own_manifests:
        manifests = {name: hparams[name] for name in ("train_csv", "valid_csv")}
        run_on_main(
            prepare_folder,
            kwargs={
                "data_folder": hparams["data_folder"],
                "valid_share": hparams["valid_share"],
                "seed": hparams["seed"],
                **manifests,
            },
        )
    (tracks, train_set), valid_set, corpus_set, hours = make_datasets(hparams)
    sb.create_experiment_directory(hparams["output_folder"], hparams_file, overrides)

    output = Path(hparams["output_folder"])
    model, features = hparams["model"], hparams["features"]
    statistics = {
        "path": output / "corpus_statistics.npz",
        "key": statistics_key(
            Path(hparams["train_csv"]),
            hparams["seed"],
            hparams["segment_seconds"],
            hparams["statistics_segments"],
            model.quantizer.config,
        ),
        "dataset": corpus_set,
        "model": model,
        "features": features,
        "batch_size": hparams["batch_size"],
        "workers": hparams["num_workers"],
        "bar": not run_opts.noprogressbar,
    }
    run_on_main(prepare_statistics, kwargs=statistics)

    brain = BestRQBrain(
        statistics=prepare_statistics(**statistics),
        hours=hours,
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=AtomicCheckpointer(output / "save", {"model": model, "features": features}),
        plan=plan,
        learning_rate_factor=partial(hparams["learning_rate_factor"], total=plan.total_steps),
    )
    loader = partial(
        make_loader,
        collate_fn=collate,
        num_workers=hparams["num_workers"],
        pin_memory="cuda" in brain.device,
    )
    weights = tracks["duration"] * tracks["weight"]
    draws = plan.steps_per_epoch * hparams["effective_batch"]
    batch_size, seed = hparams["batch_size"], hparams["seed"]
    sampler = DrawSampler(weights, draws, batch_size, seed, rank, world_size)
    brain.fit(
        hparams["epoch_counter"],
        loader(train_set, batch_sampler=sampler),
        loader(valid_set, batch_sampler=every_row(len(valid_set), batch_size, rank, world_size)),
    )
    brain.export(output / "export")


if __name__ == "__main__":
    run(main)
