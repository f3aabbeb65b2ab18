"""Version identification: similarities of tracks from frozen features, and from a trained head."""

import logging
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import IterableDataset

from speechbrain_music.dataio.loading import make_loader
from speechbrain_music.evaluation.features import ORDER
from speechbrain_music.evaluation.heads import HeadBrain, best_rate
from speechbrain_music.evaluation.probes import on_frozen_features
from speechbrain_music.metrics.feature_statistics import make_standardizations
from speechbrain_music.metrics.retrieval import unit_vectors
from speechbrain_music.nnet.version_head import VersionHead, contrastive_loss
from speechbrain_music.optim.patience import PlateauEarlyStopping
from speechbrain_music.utils.errors import UserError

logger = logging.getLogger(__name__)

# What is done to the features of one layer (see `make_standardizations`), and the trained head.
FEATURES = {"raw": False, "centred": "centre", "whitened": "whiten"}
ATTENTION = "attention"
AT_A_TIME = 64  # tracks


class VersionBatch(NamedTuple):
    """B tracks with K chunks at most."""

    x: torch.Tensor  # (B, K, L, d) float32
    lengths: torch.Tensor  # (B,) int64 chunks
    works: torch.Tensor  # (B,) int64

    def to(self, device):
        """The batch on a device."""
        return VersionBatch(*(part.to(device) for part in self))


def take_tracks(split, tracks):
    """The `VersionBatch` of some tracks of a `FeatureSplit`."""
    rows = [split.rows[(split.tracks == track).numpy()] for track in tracks]
    parts = [torch.from_numpy(np.asarray(split.values[part])) for part in rows]
    lengths = torch.tensor([len(part) for part in parts])
    return VersionBatch(pad_sequence(parts, batch_first=True), lengths, split.targets[tracks])


class TrainingVersions(IterableDataset):
    """One epoch of `VersionBatch`es: each work once, with two of its tracks.

    Order and tracks follow from (seed, epoch). Works with one track are left out.
    """

    def __init__(self, split, works_per_batch, seed):
        self.split, self.works_per_batch, self.seed = split, works_per_batch, seed
        works = split.targets.numpy()
        self.tracks = [np.flatnonzero(works == work) for work in np.unique(works)]
        self.tracks = [tracks for tracks in self.tracks if len(tracks) > 1]
        if len(self.tracks) < 2:
            raise UserError(
                f"{len(self.tracks)} training works have two tracks that can be read, two are "
                "needed: use more data, or a larger --replica_scale"
            )
        self.start(1)

    def start(self, epoch, batch=0):
        """Sets the epoch of the next iteration, which starts with its first batch."""
        self.epoch = epoch

    def __len__(self):
        return -(-len(self.tracks) // self.works_per_batch)

    def __iter__(self):
        rng = np.random.default_rng([ORDER, self.seed, self.epoch])
        order = rng.permutation(len(self.tracks))
        for begin in range(0, len(order), self.works_per_batch):
            works = order[begin : begin + self.works_per_batch]
            pairs = [rng.choice(self.tracks[work], 2, replace=False) for work in works]
            yield take_tracks(self.split, np.concatenate(pairs))


class VersionBrain(HeadBrain):
    """Trains a head whose embeddings of a work's tracks are similar; a recipe subclasses it.

    Arguments
    ---------
    task : VersionIdentification
        Its mean average precision is what validation maximises.
    split : FeatureSplit
        To validate on.
    **brain
        As `HeadBrain`. The head is a VersionHead; `hparams` has the loss's `temperature`.
    """

    def __init__(self, task, split, **brain):
        super().__init__(**brain)
        self.task, self.split = task, split

    def compute_forward(self, batch, stage):
        """Embeddings (B, width) of a `VersionBatch`."""
        return self.modules.head(batch.x, batch.lengths)

    def compute_objectives(self, embeddings, batch, stage):
        """The contrastive loss, summed over tracks."""
        return contrastive_loss(embeddings, batch.works, self.hparams.temperature).sum()

    def count(self, batch):
        """Tracks."""
        return len(batch.works)

    def validate(self):
        """The mean average precision of the validation tracks."""
        return mean_precision(self.task, self.similarities(self.split), self.split)

    @torch.no_grad()
    def similarities(self, split):
        """As `track_similarities`, of the tracks of a `FeatureSplit` embedded by the head."""
        head, found = self.modules.head.eval(), []
        for begin in range(0, len(split.names), AT_A_TIME):
            tracks = np.arange(len(split.names))[begin : begin + AT_A_TIME]
            batch = take_tracks(split, tracks).to(self.device)
            found.append(head(batch.x, batch.lengths).cpu().numpy())
        return track_similarities(np.concatenate(found), np.arange(len(split.names)))


def track_similarities(values, tracks, matches=None):
    """A function from rows (R,) of tracks to their similarities (R, M) with all M tracks.

    values (N, d) are vectors of chunks, of the tracks (N,), ascending from 0. Tracks are compared
    by the cosine of their mean vectors; or with `matches`: for each chunk of the first, the most
    similar of the second counts, and of these cosines the mean of the `matches` highest. The latter
    is not symmetric.
    """
    starts = np.searchsorted(tracks, np.arange(tracks[-1] + 1))
    if matches is None:
        counts = np.diff([*starts, len(tracks)])[:, None]
        means = unit_vectors(np.add.reduceat(values, starts, axis=0) / counts, "raw")
        return lambda rows: means[rows] @ means.T
    vectors = unit_vectors(values, "raw")

    def best(row):
        closest = np.maximum.reduceat(vectors[tracks == row] @ vectors.T, starts, axis=1)
        return np.sort(closest, axis=0)[-matches:].mean(axis=0)

    return lambda rows: np.stack(list(map(best, rows)))


def mean_precision(task, similarities, split):
    """The mean average precision of a split's tracks."""
    return float(np.nanmean(task.score(similarities, split.targets.numpy())["map"]))


class RankedVersions(NamedTuple):
    """How an encoder's features, and a head on them, compare the test tracks."""

    table: pd.DataFrame  # a row per choice: head, layer, lr, seed, valid, epoch
    chosen: dict  # head -> rows of the best choice: one, or one per seed
    similarities: dict  # head -> for each seed a function as `track_similarities` gives


def rank_versions(brain_class, features, run):
    """Chooses the layer of each kind of features, and trains the head; returns `RankedVersions`.

    Layers and learning rates are chosen by the mean average precision of the validation works;
    means and covariances are those of the training works' chunks.
    """
    hparams, layers, splits = run.hparams, features.encoder.layers, features.splits
    task, train, valid = hparams["task"], splits["train"], splits["valid"]
    kinds = [name for name in hparams["heads"] if name in FEATURES]
    found = make_standardizations(train.values, train.rows, [FEATURES[name] for name in kinds])
    rows, chosen, similarities = [], {}, {}

    def compare(kind, split, layer):
        values = torch.from_numpy(np.asarray(split.values[split.rows]))
        values = found[FEATURES[kind]](values)[:, layer].numpy()
        return track_similarities(values, split.tracks.numpy(), hparams["matches"])

    for kind in kinds:
        first = len(rows)
        for layer, name in enumerate(layers):
            value = mean_precision(task, compare(kind, valid, layer), valid)
            rows.append({"head": kind, "layer": name, "valid": value})
        best = int(np.argmax([row["valid"] for row in rows[first:]]))
        chosen[kind] = [first + best]
        similarities[kind] = [compare(kind, splits["test"], best)] * len(hparams["probe_seeds"])
    if ATTENTION in hparams["heads"]:
        first, brains = len(rows), {}
        for lr, seed in product(hparams["learning_rates"], hparams["probe_seeds"]):
            brain = _train(brain_class, features, run, lr, seed)
            value, epoch = float(brain.patience.best), int(brain.patience.best_epoch)
            brains[len(rows)] = brain
            rows.append({"head": ATTENTION, "layer": "all", "lr": lr, "seed": seed})
            rows[-1] |= {"valid": value, "epoch": epoch}
            logger.info(f"attention, learning rate {lr:g}, seed {seed}: {value:.4f}")
        chosen[ATTENTION] = best_rate(pd.DataFrame(rows).iloc[first:])
        similarities[ATTENTION] = [
            brains[row].similarities(splits["test"]) for row in chosen[ATTENTION]
        ]
    return RankedVersions(pd.DataFrame(rows), chosen, similarities)


def _train(brain_class, features, run, lr, seed):
    hparams, train = run.hparams, features.splits["train"]
    scale = make_standardizations(train.values, train.rows, [True])[True]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = VersionHead(scale.mean, scale.std, hparams["embedding_width"])
    versions = TrainingVersions(train, hparams["batch_size"], seed)
    brain = brain_class(
        hparams["task"],
        features.splits["valid"],
        patience=PlateauEarlyStopping(1, hparams["plateau_patience"], hparams["patience"]),
        modules={"head": head},
        **on_frozen_features(hparams, run.run_opts, len(versions), lr=lr, seed=seed),
    )
    brain.fit(brain.hparams.epoch_counter, make_loader(versions, batch_size=None))
    return brain
