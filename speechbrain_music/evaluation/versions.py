"""Version identification: similarities of tracks from frozen features, and from a trained head."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.nn.utils.rnn import pad_sequence

from speechbrain_music.dataio.loading import to_device
from speechbrain_music.dataio.transposition import SEMITONES, transpose
from speechbrain_music.evaluation.features import FeatureCache, ShuffledBatches
from speechbrain_music.evaluation.heads import HeadBatch, HeadBrain, best_rate, train_grid
from speechbrain_music.metrics.feature_statistics import make_standardizations, mean_and_std
from speechbrain_music.metrics.retrieval import FEATURES, unit_vectors
from speechbrain_music.nnet.version_head import VersionHead, contrastive_loss
from speechbrain_music.utils.errors import UserError

ATTENTION = "attention"  # the trained head; others are `FEATURES` of one layer
AT_A_TIME = 64  # tracks


class TransposedCache(FeatureCache):
    """(chunks, transpositions, layers, dim) float32 features on disk; chunks as recorded first."""

    options = ("transpositions",)

    def __init__(self, folder, encoder, chunks, count):
        self.semitones = SEMITONES[:count]
        shape = len(self.semitones), len(encoder.layers), encoder.dim
        super().__init__(folder, encoder, chunks, shape=shape, key=[self.semitones])

    def encode(self, batch):
        """The features of each chunk of a `WaveBatch`, each (1, transpositions, layers, dim)."""
        waves = (transpose(batch.wave, semitones) for semitones in self.semitones)
        encode = super().encode
        return np.stack([encode(batch._replace(wave=wave)) for wave in waves], axis=2)


def take_tracks(split, tracks, transposed=0):
    """The `HeadBatch` of some tracks of a `FeatureSplit`; one transposition, or one of each."""
    bounds = (np.searchsorted(split.tracks.numpy(), tracks, side) for side in ("left", "right"))
    rows = [split.rows[begin:end] for begin, end in zip(*bounds, strict=True)]
    each = zip(rows, np.broadcast_to(transposed, len(rows)), strict=True)
    parts = [torch.from_numpy(np.asarray(split.values[part])) for part in each]
    lengths = torch.tensor([len(part) for part in parts])
    return HeadBatch(pad_sequence(parts, batch_first=True), lengths, split.targets[tracks])


class TrainingVersions(ShuffledBatches):
    """One epoch of `HeadBatch`es: each work once, two of its tracks in a random transposition.

    Works with one track are left out.
    """

    def __init__(self, split, works_per_batch, seed):
        works = split.targets.numpy()
        tracks = [np.flatnonzero(works == work) for work in np.unique(works)]
        self.split, self.tracks = split, [each for each in tracks if len(each) > 1]
        if len(self.tracks) < 2:
            raise UserError(
                f"{len(self.tracks)} training works have two tracks that can be read, two are "
                "needed: use more data, or a larger --replica_scale"
            )
        super().__init__(range(len(self.tracks)), works_per_batch, seed)

    def make_batch(self, items, rng):
        """Two tracks of each of some works."""
        pairs = [rng.choice(self.tracks[work], 2, replace=False) for work in items]
        transposed = rng.integers(self.split.values.shape[1], size=len(items)).repeat(2)
        return take_tracks(self.split, np.concatenate(pairs), transposed)


class VersionBrain(HeadBrain):
    """Trains one head, a VersionHead, whose embeddings of a work's tracks are similar; a recipe
    subclasses it. `hparams` has the loss's `temperature`."""

    def compute_objectives(self, embeddings, batch, stage):
        """The contrastive loss, summed over tracks."""
        return contrastive_loss(embeddings, batch.targets, self.hparams.temperature).sum()

    def count(self, batch):
        """Tracks."""
        return len(batch.targets)

    def validate(self):
        """The mean average precision of the validation tracks."""
        return mean_precision(self.task, self.similarities(self.split), self.split)

    @torch.no_grad()
    def similarities(self, split):
        """As `track_similarities`, of the tracks of a `FeatureSplit` embedded by the head."""
        head, every = self.modules.head.eval(), np.arange(len(split.names))

        def embed(transposed):
            for tracks in np.split(every, every[AT_A_TIME::AT_A_TIME]):
                batch = to_device(take_tracks(split, tracks, transposed), self.device)
                yield head(batch.x, batch.lengths).cpu().numpy()

        values = [np.concatenate([*embed(each)]) for each in range(split.values.shape[1])]
        return track_similarities(values, every)


def track_similarities(pitches, tracks, matches=None):
    """A function from rows (R,) of tracks to their similarities (R, M) with all M tracks.

    pitches are vectors (N, d) of chunks, of the tracks (N,), ascending from 0; then those of the
    same chunks transposed, if any. Tracks are compared by the cosine of their mean vectors; or with
    `matches`: for each chunk of the first, the most similar of the second counts, and of these
    cosines the mean of the `matches` highest. The first track is compared in each transposition
    with the second as recorded, and the highest similarity counts. The latter two are not
    symmetric.
    """
    starts = np.searchsorted(tracks, np.arange(tracks[-1] + 1))
    if matches is None:
        counts = np.diff([*starts, len(tracks)])[:, None]
        sums = (np.add.reduceat(each, starts, axis=0) for each in pitches)
        means = [unit_vectors(each / counts) for each in sums]
        return lambda rows: np.max([each[rows] @ means[0].T for each in means], axis=0)
    vectors = [unit_vectors(each) for each in pitches]

    def best(row):
        similar = [each[tracks == row] @ vectors[0].T for each in vectors]
        closest = np.maximum.reduceat(similar, starts, axis=2)
        return np.sort(closest, axis=1)[:, -matches:].mean(axis=1).max(axis=0)

    return lambda rows: np.stack(list(map(best, rows)))


def mean_precision(task, similarities, split):
    """The mean average precision of a split's tracks."""
    return float(np.nanmean(task.score(similarities, split.targets.numpy())["map"]))


class RankedVersions(NamedTuple):
    """How an encoder's features, and a head on them, compare the test tracks."""

    table: pd.DataFrame  # a row per choice: head, layer, lr, seed, valid, epoch
    chosen: dict  # head -> rows of the best choice: one, or one per seed
    similarities: dict  # head -> functions as `track_similarities` gives: one, or one per seed


def rank_versions(brain_class, features, run):
    """Chooses the layer of each kind of features, and trains the head; returns `RankedVersions`.

    Layers and learning rates are chosen by the mean average precision of the validation works;
    means and covariances of each transposition are those of the training works' chunks in it.
    """
    hparams, layers, splits = run.hparams, features.encoder.layers, features.splits
    task, train, valid = hparams["task"], splits["train"], splits["valid"]
    kinds = [name for name in hparams["heads"] if name in FEATURES]
    pitches = np.moveaxis(train.values, 1, 0)
    needed = [FEATURES[name] for name in kinds]
    found = [make_standardizations(values, train.rows, needed) for values in pitches]
    rows, chosen, similarities = [], {}, {}

    def compare(kind, split, chosen):
        """The similarities of a split's tracks in each of the chosen layers."""
        values = (torch.from_numpy(x[split.rows]) for x in np.moveaxis(split.values, 1, 0))
        pairs = zip(found, values, strict=True)
        pitches = [by[FEATURES[kind]](x).numpy().swapaxes(0, 1)[chosen] for by, x in pairs]
        tracks, matches = split.tracks.numpy(), hparams["matches"]
        return (track_similarities(x, tracks, matches) for x in zip(*pitches, strict=True))

    if len(valid.targets.unique()) == len(valid.targets):
        raise UserError("no validation work has two versions that can be read: use more works")
    for kind in kinds:
        each = compare(kind, valid, range(len(layers)))
        values = [mean_precision(task, similar, valid) for similar in each]
        best = int(np.nanargmax(values))
        chosen[kind] = [len(rows) + best]
        similarities[kind] = list(compare(kind, splits["test"], [best]))
        rows += [
            {"head": kind, "layer": x, "valid": y} for x, y in zip(layers, values, strict=True)
        ]
    if ATTENTION in hparams["heads"]:
        mean, std = map(torch.from_numpy, mean_and_std(pitches[0], train.rows))
        trained, brains = train_grid(
            brain_class,
            features,
            run,
            [ATTENTION],
            lambda kind: VersionHead(mean, std, hparams["embedding_width"]),
            lambda head, seed: TrainingVersions(train, hparams["batch_size"], seed),
        )
        best = best_rate(pd.DataFrame(trained))
        chosen[ATTENTION] = [len(rows) + row for row in best]
        similarities[ATTENTION] = [brains[row].similarities(splits["test"]) for row in best]
        rows += [row | {"layer": "all"} for row in trained]
    table = pd.DataFrame(rows, columns="head layer valid lr seed epoch".split())
    return RankedVersions(table, chosen, similarities)
