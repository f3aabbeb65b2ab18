"""Around the method: what pre-training measures beside trivial predictors, and exports."""

import logging

from speechbrain_music.brains.segments import SegmentBrain
from speechbrain_music.metrics.pretraining import MaskedPredictionMetrics, format_held_out
from speechbrain_music.models.export import export_run
from speechbrain_music.reporting.curves import PANELS

logger = logging.getLogger(__name__)


class PretrainBrain(SegmentBrain):
    """Everything of BEST-RQ pre-training but the forward pass and the loss.

    A subclass gives `compute_forward`, returning (Prediction, mel, lengths), and
    `compute_objectives`, the loss summed over masked tokens.

    Arguments
    ---------
    statistics : TokenStatistics
        Of the training corpus.
    **brain
        As `SegmentBrain`. `hparams` needs also seed, reconstruction_weight, mask_block.

    Example
    -------
    >>> from types import SimpleNamespace
    >>> brain = SimpleNamespace(hparams=SimpleNamespace(reconstruction_weight=3.0))
    >>> PretrainBrain.held_out_loss(brain, {"cross_entropy": 5.0, "mel_mse": 0.5})
    6.5
    """

    panels = PANELS

    def __init__(self, statistics, **brain):
        super().__init__(**brain)
        self.statistics = statistics

    def count(self, batch):
        """Masked tokens."""
        return batch.mask.sum()

    def parts(self):
        """The encoder's two parts, and the heads."""
        model = self.hparams.model
        return {
            "front-end": model.encoder.frontend,
            f"{len(model.encoder.layers)} blocks": model.encoder.layers,
            "token head": model.token_head,
            "mel head": model.mel_head,
        }

    def sums(self, batch, outputs):
        """Cross-entropy, mel error and hits over masked tokens."""
        prediction = outputs[0]
        hits = (prediction.logits.argmax(dim=-1) == prediction.tokens).sum()
        return {
            "cross_entropy": prediction.token_loss,
            "mel_mse": prediction.mel_loss,
            "accuracy": hits.double() / prediction.tokens.shape[-1],
        }

    def new_measures(self):
        """Of masked prediction, beside trivial predictors."""
        return MaskedPredictionMetrics(self.statistics, self.hparams.mask_block, self.device)

    def measure(self, batch, outputs):
        """Adds a held-out batch to the measures."""
        prediction, mel, lengths = outputs
        tokens = self.hparams.model.tokenize(mel)
        self.measures.update(prediction.logits, prediction.mel, mel, tokens, batch.mask, lengths)

    def held_out_loss(self, figures):
        """The training's loss."""
        return figures["cross_entropy"] + self.hparams.reconstruction_weight * figures["mel_mse"]

    def table(self, figures):
        """The figures with their baselines, in aligned columns."""
        return format_held_out(figures)

    def write(self, folder, run, meta, **facts):
        """Writes the encoder."""
        export_run(folder, run, meta, **facts)
        logger.info(f"Exported the encoder of step {meta['step']} to {folder}")
