"""Distillation of a trained encoder: a student learns hidden states of a frozen teacher.

python recipes/distill/train.py hparams/distill_tiny.yaml --teacher EXPORT --data_folder /my/music
python recipes/distill/train.py hparams/distill_tiny.yaml --teacher EXPORT --student PRUNED_EXPORT
python recipes/distill/train.py hparams/transplant.yaml --teacher EXPORT  # of self-attention

The same command resumes.
"""

from pathlib import Path

import speechbrain as sb
import torch
import torch.nn.functional as F

from speechbrain_music.brains.segments import (
    MODEL_OPTIONS,
    SEGMENT_OPTIONS,
    SegmentBrain,
    open_run,
    prepare_data,
    valid_tokens,
)
from speechbrain_music.dataio.corpus_statistics import corpus_statistics
from speechbrain_music.metrics.held_out import RegressionMetrics
from speechbrain_music.reporting.curves import OPTIMIZER, with_baselines
from speechbrain_music.utils import kinds
from speechbrain_music.utils.errors import UserError, run_recipe

KINDS = kinds.read(Path(__file__).with_name("options.yaml"))
OPTIONS, OBJECT_OPTIONS = SEGMENT_OPTIONS | KINDS["distill"], MODEL_OPTIONS | KINDS["model"]
# Keys that say what a new student is like.
STUDENT_OPTIONS = {"frontend", "mixer", "block", *MODEL_OPTIONS} - {"gradient_checkpointing"}
LOSSES = ("loss", "l1", "cosine")  # also the panels of the curves


class DistillBrain(SegmentBrain):
    """Predicts normalised hidden states of a teacher from those of the student."""

    def __init__(self, **brain):
        super().__init__(**brain)
        self.teacher = self.hparams.teacher_encoder.to(self.device)
        self.targets = [f"layer_{layer}" for layer in self.hparams.heads.layers]
        self.panels = {name: with_baselines(name) for name in LOSSES}
        self.panels["held-out R2"] = [("valid", f"r2_{name}", name) for name in self.targets]
        self.panels |= OPTIMIZER

    def compute_forward(self, batch, stage):
        """Predictions and targets: two lists of (M, d), an entry for each layer, of M tokens."""
        valid, layers = valid_tokens(batch), self.hparams.heads.layers
        mel, lengths = self.modules.features(batch.wave, batch.samples)
        predicted = self.modules.heads(self.modules.encoder(mel, lengths)[1])
        states, _ = self.teacher.frames(batch.wave, batch.samples)
        targets = [F.layer_norm(states[:, :, n][valid], states.shape[-1:]) for n in layers]
        return [states[valid].float() for states in predicted], targets

    def compute_objectives(self, outputs, batch, stage):
        """Return L1 plus the weighted loss of the cosine similarity, summed over tokens.

        Both are means over layers. Source: DistilHuBERT, arXiv 2110.01900.
        """
        predicted, targets = map(torch.stack, outputs)
        l1 = (predicted - targets).abs().mean(dim=(0, 2))
        cosine = F.cosine_similarity(predicted, targets, dim=-1)
        loss = l1 - self.hparams.cosine_weight * F.logsigmoid(cosine).mean(dim=0)
        sums = (value.detach().sum() for value in (loss, l1, cosine.mean(dim=0)))
        self.losses = dict(zip(LOSSES, sums, strict=True))
        if stage != sb.Stage.TRAIN:
            self.metrics.update(self.losses, predicted, targets)
        return loss.sum()

    def make_metrics(self):
        """Watch the loss, its parts, and the R2 of each of the teacher's layers."""
        return RegressionMetrics(LOSSES, self.targets, self.teacher.width, self.device)

    def report(self, figures):
        """Show the figures."""
        return "\n".join(f"  {name:14s}{value:10.4f}" for name, value in figures.items())


def main(argv):
    """Train or resume, then export the student; see the head of this file."""
    with open_run(argv, OPTIONS, OBJECT_OPTIONS) as (file, hparams, run_opts, overrides, plan):
        # Not of `overrides`, which have no exchanged classes.
        given = {word[2:].partition("=")[0] for word in argv if word.startswith("--")}
        if hparams.get("student") and (unused := sorted(given & STUDENT_OPTIONS)):
            raise UserError(f"the student has its own {unused[0]}: leave out --{unused[0]}")
        hparams["init_from"] = hparams.get("student", hparams["teacher"])
        data = prepare_data(file, hparams, overrides)
        # An export that the student begins with keeps the statistics of its features.
        options = hparams | {"init_parts": ["statistics"]}
        corpus_statistics(options, data.pieces, bar=not run_opts.noprogressbar)
        brain = DistillBrain.of_run(hparams, run_opts, plan)
        brain.fit_corpus(data)
        brain.export(Path(hparams["output_folder"]) / "export")


if __name__ == "__main__":
    run_recipe(main)
