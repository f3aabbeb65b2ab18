"""Statistics of a training corpus (mel bands, token frequencies), computed once per run."""

import hashlib
import logging
from pathlib import Path

import numpy as np
import torch
from speechbrain.utils.distributed import run_on_main
from tqdm import tqdm

from speechbrain_music.dataio.loading import make_loader, to_device
from speechbrain_music.dataio.sampler import every_row
from speechbrain_music.dataio.segments import collate
from speechbrain_music.metrics import pretraining
from speechbrain_music.models.frontend import padding_mask
from speechbrain_music.models.ssl import stack_frames, tokenize
from speechbrain_music.models.targets import TrainedTargets
from speechbrain_music.utils.atomic import atomic_file
from speechbrain_music.utils.errors import UserError

logger = logging.getLogger(__name__)

LOW_PERPLEXITY = 100


def corpus_statistics(hparams, dataset, quantizer=None, bar=True):
    """Make the statistics of a run's corpus, or read those made before, and set the features.

    Two passes over the data set, by one process: means and standard deviations of the mel bands;
    then tokens, and pairs of a masked token with its nearest visible one. A trained quantizer
    follows the features. The features' own statistics stay if `init_parts` has "statistics".
    Returns the `TokenStatistics`, or None without a quantizer. A damaged file is made again. Raises
    a `UserError` if the file is of another corpus or other options, or if no item of the data set
    could be read.
    """
    features, path = hparams["features"], Path(hparams["output_folder"]) / "corpus_statistics.npz"
    cqt = hparams["cqt"] if hparams.get("cqt_weight") else None
    key = [hparams[name] for name in ("seed", "segment_seconds", "statistics_segments")]
    key.append(quantizer and quantizer.config)  # of a trained one with a hash of its weights
    if features.normalize.kind != "band":
        key.append(features.normalize.kind)
    if cqt is not None:
        key.append(["cqt", cqt.quantizer.config])
    kept = hparams.get("init_from") if "statistics" in hparams.get("init_parts", ()) else None
    if kept:
        key.append(["statistics", kept])
    settings = "".join(map(repr, key)).encode()
    key = hashlib.sha256(Path(hparams["train_csv"]).read_bytes() + settings).hexdigest()
    # By the prefix of their statistics' names.
    parts = {"": (features, quantizer)} | ({"cqt_": (cqt.features, cqt.quantizer)} if cqt else {})
    loader = make_loader(
        dataset,
        batch_sampler=every_row(len(dataset), hparams["batch_size"]),
        collate_fn=collate,
        num_workers=hparams["num_workers"],
    )

    def prepare():
        values = _read(path, key, parts)
        if values is None:
            values = {"key": np.array(key), **_make(loader, parts, cqt, bool(kept), bar)}
            with atomic_file(path, "wb") as file:
                np.savez(file, **values)
        return values

    run_on_main(prepare)
    values = prepare()
    if quantizer is None:
        return None
    fields = pretraining.TokenStatistics._fields
    return pretraining.TokenStatistics(*map(values.get, fields))


def _read(path, key, parts):
    """The arrays of a file, by which the features are set; None if it is missing or damaged."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            values = dict(stored)
        if is_right := str(values["key"]) == key:
            _set_features(values, parts)
    except Exception as error:  # whatever a damaged file makes numpy raise
        logger.warning(f"{path} is damaged and is made again ({error!r:.200})")
        return None
    if not is_right:
        raise UserError(
            f"{path} was made for another corpus, segment length, normalization or other targets: "
            "choose another output_folder, or delete that file if nothing was trained with it yet"
        )
    return values


def _set_features(values, parts):
    for prefix, (features, quantizer) in parts.items():
        mean, std = (torch.from_numpy(values[prefix + name]) for name in ("mean", "std"))
        features.normalize.set_statistics(mean, std)
        if isinstance(quantizer, TrainedTargets):
            quantizer.follow(features.normalize)


@torch.no_grad()
def _make(loader, parts, cqt, keep, bar):
    features, quantizer = parts[""]

    def batches(what):
        device = features.normalize.mean.device
        for batch in tqdm(loader, desc=f"corpus: {what}", disable=not bar, dynamic_ncols=True):
            batch = to_device(batch, device)
            readable = batch.mask.any(dim=1)
            if readable.any():
                yield batch.wave[readable], batch.samples[readable], batch.mask[readable]

    arrays = _band_statistics(batches("mel bands"), parts)
    if keep:
        arrays |= {k: v.cpu().numpy() for k, v in features.normalize.state_dict().items()}
    _set_features(arrays, parts)
    if quantizer is not None:
        tokens = _token_statistics(batches("tokens"), features, quantizer, cqt)
        value = min(pretraining.perplexity(counts) for counts in tokens.unigram)
        logger.info(f"corpus: {tokens.unigram[0].sum():.0f} tokens; perplexity {value:.0f}")
        if value < LOW_PERPLEXITY:
            logger.warning(
                f"the codebook's perplexity is {value:.0f}, below {LOW_PERPLEXITY}: the corpus is "
                "small or uniform (or nearly silent), and its tokens have little to teach"
            )
        if cqt is not None:
            value = min(pretraining.perplexity(counts) for counts in tokens.cqt_unigram)
            logger.info(f"corpus: perplexity {value:.0f} of the constant-Q transform's tokens")
        arrays |= {name: value for name, value in tokens._asdict().items() if value is not None}
    return arrays


def _band_statistics(batches, parts):
    """Mean and standard deviation of each band, in nats, over all valid frames."""
    counts, sums = dict.fromkeys(parts, 0), dict.fromkeys(parts, 0.0)  # sums: of values, of squares
    for wave, samples, _ in batches:
        for prefix, (features, _) in parts.items():
            values, tokens = features.raw(wave, samples)
            mask = padding_mask(features.rate * tokens, values.shape[1])
            frames = (values.flatten(0, 1) if mask is None else values[~mask]).double().cpu()
            counts[prefix] += len(frames)
            sums[prefix] += torch.stack([frames.sum(dim=0), frames.square().sum(dim=0)])
    if not counts[""]:
        raise UserError("none of the training tracks could be read: check the manifest's paths")
    statistics = {}
    for prefix, count in counts.items():
        mean, square = sums[prefix] / count
        statistics[f"{prefix}mean"] = mean.float().numpy()
        std = (square - mean.square()).clamp(min=0).sqrt()
        statistics[f"{prefix}std"] = std.float().numpy()
    return statistics


def _token_statistics(batches, features, quantizer, cqt):
    """The `TokenStatistics` of all valid tokens."""
    unigram, cqt_unigram = 0.0, None if cqt is None else 0.0
    codes, counts = [], []
    for wave, samples, mask in batches:
        mel, lengths = features(wave, samples)
        tokens = tokenize(quantizer, stack_frames(mel), lengths)
        valid = torch.arange(tokens.shape[1], device=mask.device) < lengths.unsqueeze(1)
        size = quantizer.config["codebook_size"]
        unigram += pretraining.count_codes(tokens[valid], size).cpu().numpy()
        code, count = pretraining.count_pairs(tokens, mask, lengths, size)
        if cqt is not None:
            cqt_tokens, size = cqt(wave, samples, valid), cqt.quantizer.config["codebook_size"]
            cqt_unigram += pretraining.count_codes(cqt_tokens, size).cpu().numpy()
        codes.append(code)
        counts.append(count)
    pairs, place = np.unique(np.concatenate(codes), return_inverse=True)
    pair_counts = np.bincount(place, weights=np.concatenate(counts)).astype(np.int64)
    return pretraining.TokenStatistics(unigram, pairs, pair_counts, cqt_unigram)
