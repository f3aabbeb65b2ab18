"""BEST-RQ pre-training of a music encoder.

python recipes/pretrain/train.py hparams/brn_sum.yaml --data_folder /my/music
python recipes/pretrain/train.py hparams/brn_sum_tiny.yaml  # on composed music, made once
torchrun --nproc_per_node=8 recipes/pretrain/train.py hparams/brn_sum.yaml --data_folder /my/music

--preset NAME (of hparams/presets) sets several options at once. The same command resumes.
"""

import json
import logging
import re
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import speechbrain as sb
import torch
from speechbrain.utils.distributed import if_main_process

from speechbrain_music import hparams as yamls
from speechbrain_music.brains.segments import (
    MODEL_OPTIONS,
    SEGMENT_OPTIONS,
    SegmentBrain,
    open_run,
    prepare_data,
)
from speechbrain_music.dataio.audio import AudioError
from speechbrain_music.dataio.corpus_statistics import corpus_statistics
from speechbrain_music.evaluation.frame_probe import FrameProbe
from speechbrain_music.metrics import pretraining
from speechbrain_music.models.initialisation import LOADED, PARTS, describe, initialise
from speechbrain_music.models.ssl import stack_frames, tokenize
from speechbrain_music.nnet.masking import interpolate_masked
from speechbrain_music.optim.groups import separate_groups
from speechbrain_music.reporting.curves import PANELS
from speechbrain_music.reporting.run_log import format_held_out
from speechbrain_music.utils import kinds
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.config import with_preset
from speechbrain_music.utils.errors import run_recipe

logger = logging.getLogger(__name__)

OPTIONS = SEGMENT_OPTIONS | kinds.read(Path(__file__).with_name("options.yaml"))["pretrain"]
_parts = kinds.list_of(kinds.choice(*PARTS))
OPTIONS["init_parts"] = _parts._replace(parse=partial(re.findall, r"\w+"))
MASKING = ("mask_block", "mask_probability", "noise_std", "augment")
# With fewer hours than these, an encoder needs other options: docs/your_corpus.md.
FEW_HOURS = 0.5
FOR_FEW = (
    "--augment True --mel_residual interpolation --reconstruction_weight 0.3 --dropout 0.1 "
    "--number_of_epochs 11"
)


class Predictions(NamedTuple):
    """Outputs of the forward pass: B items, T tokens, M of them masked, N codebooks of K."""

    logits: torch.Tensor  # (M, N, K)
    tokens: torch.Tensor  # (M, N), the targets
    mel: torch.Tensor  # (M, 512), the reconstructed frames of masked tokens
    out: torch.Tensor  # (B, T, d_model), the encoder's output
    true_mel: torch.Tensor  # (B, 4 T, 128), normalised log-mel
    lengths: torch.Tensor  # (B,), tokens of each item
    cqt: tuple | None = None  # logits and tokens of a constant-Q transform, as the first two


class BestRQBrain(SegmentBrain):
    """Masks blocks of log-mel, predicts their tokens and reconstructs them."""

    panels = PANELS

    def __init__(self, statistics, frame_probe=None, initialised=(), **brain):
        super().__init__(**brain)
        self.initialised = initialised  # parameters whose first values are of another model
        self.statistics = statistics  # of tokens in the training corpus, for trivial predictors
        self.frame_probe = frame_probe  # where held-out tracks were composed

    def compute_forward(self, batch, stage):
        """Compute features, tokens, the masked input, the encoder's output and both heads."""
        mel, lengths = self.modules.features(batch.wave, batch.samples)
        tokens = tokenize(self.modules.quantizer, stack_frames(mel), lengths, batch.mask)
        masked_mel = self.modules.mask(mel, batch.mask, batch.noise)
        out, _, _ = self.modules.encoder(masked_mel, lengths)
        # Heads on masked tokens only: 8192 logits for every token would cost half a step.
        logits = self.modules.token_head(out[batch.mask])
        rebuilt = self.modules.mel_head(out[batch.mask]).float()
        if self.hparams.mel_residual == "interpolation":
            rebuilt = rebuilt + interpolate_masked(mel, batch.mask, lengths).view_as(rebuilt)
        predictions = Predictions(logits, tokens, rebuilt, out, mel, lengths)
        if not self.hparams.cqt_weight:
            return predictions
        cqt_tokens = self.modules.cqt(batch.wave, batch.samples, batch.mask)
        return predictions._replace(cqt=(self.modules.cqt_head(out[batch.mask]), cqt_tokens))

    def compute_objectives(self, predictions, batch, stage):
        """Return cross-entropies plus weighted mel MSE, summed over masked tokens."""
        logits, tokens, rebuilt, _, mel, lengths, cqt = predictions
        cross_entropy = pretraining.sum_cross_entropy(logits, tokens)
        target = stack_frames(mel)[batch.mask]
        mel_mse = (rebuilt - target).square().mean(dim=-1).sum()
        self.losses = {"cross_entropy": cross_entropy.detach(), "mel_mse": mel_mse.detach()}
        if self.hparams.reconstruct == "all":
            mel_mse = self.mel_mse_of_all_tokens(predictions, batch.mask)
        if stage != sb.Stage.TRAIN:
            all_tokens = tokenize(self.modules.quantizer, stack_frames(mel), lengths)
            self.metrics.update(logits, rebuilt, mel, all_tokens, batch.mask, lengths, cqt)
        loss = cross_entropy + self.hparams.reconstruction_weight * mel_mse
        if cqt is not None:
            entropy = pretraining.sum_cross_entropy(*cqt)
            self.losses["cqt_cross_entropy"] = entropy.detach()
            loss = loss + self.hparams.cqt_weight * entropy
        return loss

    def mel_mse_of_all_tokens(self, predictions, mask):
        """Return each item's mean over all of its tokens, times its number of masked tokens."""
        whole_mel = self.modules.mel_head(predictions.out).float()
        whole_mel[mask] = predictions.mel
        error = (whole_mel - stack_frames(predictions.true_mel)).square().mean(dim=-1)
        lengths = predictions.lengths
        valid = torch.arange(mask.shape[1], device=mask.device) < lengths.unsqueeze(1)
        return (error * valid * (mask.sum(dim=1) / lengths).unsqueeze(1)).sum()

    def count(self, batch):
        """Count masked tokens, over which the loss is summed."""
        return batch.mask.sum()

    def parameter_groups(self):
        """Give initialised parameters their own learning rate."""
        lr = self.hparams.lr * self.hparams.init_lr_scale
        return separate_groups(super().parameter_groups(), self.initialised, lr)

    def optimizers_step(self):
        """Leave initialised parameters as they are for the first steps."""
        if self.optimizer_step < self.hparams.init_freeze_steps:
            for parameter in self.initialised:
                parameter.grad = None
        super().optimizers_step()

    def parameter_parts(self):
        """Return the modules whose parameters the cost estimate counts."""
        hparams = self.hparams
        return {
            "front-end": hparams.encoder.frontend,
            f"{len(hparams.encoder.layers)} blocks": hparams.encoder.layers,
            "token head": hparams.token_head,
            "mel head": hparams.mel_head,
        } | ({"CQT head": hparams.cqt_head} if hparams.cqt_weight else {})

    def train_metrics(self, batch, predictions):
        """Return cross-entropies, mel MSE and correct predictions, summed over masked tokens."""
        correct = (predictions.logits.argmax(dim=-1) == predictions.tokens).sum()
        accuracy = correct.double() / predictions.tokens.shape[-1]
        return self.losses | {"accuracy": accuracy}

    def make_metrics(self):
        """Watch masked prediction, and what each block adds."""
        layers, block = self.hparams.encoder.layers, self.hparams.mask_block
        self.block_shares = pretraining.BlockShares(layers, self.device)
        return pretraining.MaskedPredictionMetrics(self.statistics, block, self.device)

    def report(self, figures):
        """Add the loss, the shares of blocks and the probes of frames."""
        weight, cqt_weight = self.hparams.reconstruction_weight, self.hparams.cqt_weight
        figures["loss"] = figures["cross_entropy"] + weight * figures["mel_mse"]
        figures["loss"] += cqt_weight * figures.get("cqt_cross_entropy", 0)
        figures |= self.block_shares.figures(self.reduce_sum(self.block_shares.sums))
        self.block_shares.close()
        if self.frame_probe and if_main_process():
            with suppress(AudioError):  # a track is gone
                figures |= self.frame_probe(self.hparams.features, self.hparams.encoder)
        return format_held_out(figures)


def initialise_run(hparams):
    """Load `init_from`; return the parameters that it sets.

    A run that continues needs no source: its checkpoint has the values, init.json the names.
    """
    if hparams["init_from"] is None:
        return []
    table, modules = Path(hparams["output_folder"]) / "init.json", hparams["modules"]
    if hparams["checkpointer"]().recover_if_possible():
        rows = json.loads(table.read_text(encoding="utf-8"))
    else:
        rows = initialise(modules, hparams["init_from"], hparams["init_parts"])
        logger.info(f"Initialised from {hparams['init_from']}, see {table}\n{describe(rows)}")
        if if_main_process():
            write_together({table: json.dumps(rows, indent=1)})
    loaded = {row["tensor"] for row in rows if row["status"] in LOADED}
    parameters = torch.nn.ModuleDict(modules).named_parameters()
    return [parameter for name, parameter in parameters if name in loaded]


def main(argv):
    """Train or resume, then export the encoder; see the head of this file."""
    argv = with_preset(argv, Path(yamls.__file__).parent / "presets")
    with open_run(argv, OPTIONS, MODEL_OPTIONS) as (file, hparams, run_opts, overrides, plan):
        masking = {key: hparams[key] for key in MASKING}
        data = prepare_data(file, hparams, overrides, **masking)
        options = {"initialised": initialise_run(hparams)}
        statistics = corpus_statistics(
            hparams, data.pieces, hparams["tokenizer"], bar=not run_opts.noprogressbar
        )
        probe = FrameProbe(data.train.paths, data.valid.paths)
        options |= {"statistics": statistics, "frame_probe": probe if probe.usable else None}
        brain = BestRQBrain.of_run(hparams, run_opts, plan, **options)
        if data.hours["train"] < FEW_HOURS and not hparams["augment"]:
            logger.info(
                f"An encoder memorises {60 * data.hours['train']:.0f} minutes of music. For so few "
                f"recordings pass {FOR_FEW}, and another --output_folder"
            )
        brain.fit_corpus(data)
        brain.export(Path(hparams["output_folder"]) / "export")


if __name__ == "__main__":
    run_recipe(main)
