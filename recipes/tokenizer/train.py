"""Training of a quantizer of log-mel: its tokens are targets for recipes/pretrain.

python recipes/tokenizer/train.py hparams/rvq.yaml --data_folder /my/music
python recipes/tokenizer/train.py hparams/rvq.yaml  # on composed music, made once
python recipes/tokenizer/train.py hparams/rvq.yaml --features_from EXPORT:3  # iterated targets
python recipes/pretrain/train.py hparams/brn_sum_tiny.yaml --targets results/rvq/1234/quantizer

The same command resumes.
"""

import logging
from pathlib import Path

import speechbrain as sb
import torch

from speechbrain_music.brains.segments import (
    MODEL_OPTIONS,
    SEGMENT_OPTIONS,
    SegmentBrain,
    open_run,
    prepare_data,
    valid_tokens,
)
from speechbrain_music.dataio.corpus_statistics import corpus_statistics
from speechbrain_music.metrics.held_out import QuantizerMetrics
from speechbrain_music.models.ssl import stack_frames
from speechbrain_music.models.targets import QUANTIZER, save_targets
from speechbrain_music.reporting.curves import CODES, OPTIMIZER, with_baselines
from speechbrain_music.utils import kinds
from speechbrain_music.utils.errors import run_recipe

logger = logging.getLogger(__name__)

OPTIONS = SEGMENT_OPTIONS | kinds.read(Path(__file__).with_name("options.yaml"))["tokenizer"]
OFFERED = 16  # vectors of each crop on which dead entries may be re-initialised


class QuantizerBrain(SegmentBrain):
    """Quantizes four frames of log-mel at a time and reconstructs them."""

    panels = {
        "mel MSE": with_baselines("mel_mse", {"mel_mse_mean": "corpus mean"}),
        "codebooks on held-out tracks": CODES,
        "re-initialised entries so far": [("train", "reinitialised", None)],
        "commitment loss": [("train", "commitment_loss", None)],
    } | OPTIMIZER

    def compute_forward(self, batch, stage):
        """The `Reconstruction` of all valid tokens, and the vectors (M, D) that it is of."""
        mel, lengths = self.modules.features(batch.wave, batch.samples)
        vectors = stack_frames(mel)
        if self.hparams.teacher:
            vectors = self.hparams.teacher(vectors, lengths)
        vectors = vectors[valid_tokens(batch)]
        return self.modules.model(vectors), vectors

    def compute_objectives(self, outputs, batch, stage):
        """Return mel MSE plus the weighted commitment loss, summed over tokens."""
        rebuilt, vectors = outputs
        error = (rebuilt.vectors - vectors).square().mean(dim=-1)
        commitment = rebuilt.commitment_loss
        self.losses = {"mel_mse": error.detach().sum()}
        self.losses["commitment_loss"] = commitment.detach().sum()
        if stage != sb.Stage.TRAIN:
            self.metrics.update(rebuilt.vectors, vectors, rebuilt.tokens)
        return (error + self.hparams.commitment_weight * commitment).sum()

    def parameter_parts(self):
        """Return the two linear maps."""
        quantizer = self.hparams.quantizer
        return {"down": quantizer.down, "up": quantizer.up}

    def train_state(self):
        """Return how many entries have been re-initialised so far."""
        return {"reinitialised": int(self.hparams.model.reinitialised.sum())}

    # ---- codebooks, moved by averages instead of gradients ----

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Shows the batch to the learner, which moves the codebooks with each optimiser step."""
        model, rebuilt = self.hparams.model, outputs[0]
        if (self.step - 1) % self.grad_accumulation_factor == 0:
            size = (self.hparams.effective_batch, OFFERED, rebuilt.latent.shape[1] + 1)
            self._offered = rebuilt.latent.new_zeros(size)
        model.observe(rebuilt.latent, rebuilt.tokens)
        self._offer(batch, rebuilt.latent, self.optimizer_step - should_step)
        if should_step and self.is_finite():
            offered = self.reduce_sum(self._offered)
            offered = offered.transpose(0, 1).flatten(0, 1)  # one of each crop, then a second ...
            offered = offered[offered[:, -1] > 0, :-1]
            model.update(self.reduce_sum(model.window), offered)
        elif should_step:
            model.clear()
        super().on_fit_batch_end(batch, outputs, loss, should_step)

    def _offer(self, batch, latent, step):
        """Stores vectors of each crop, with a 1 after them, at the crop's place in the whole step.

        The sum over processes then does not depend on how many there are.
        """
        counts = valid_tokens(batch).sum(dim=1)
        starts, readable = counts.cumsum(dim=0) - counts, counts > 0
        # Evenly over the crop, from another token on in each step.
        places = counts.unsqueeze(1) * torch.arange(OFFERED, device=counts.device) // OFFERED + step
        places = (starts.unsqueeze(1) + places % counts.clamp(min=1).unsqueeze(1))[readable]
        micro = (self.step - 1) % self.grad_accumulation_factor
        first = (micro * self.world_size + self.rank) * self.hparams.batch_size
        rows = torch.cat([latent, torch.ones_like(latent[:, :1])], dim=1)[places]
        self._offered[first : first + len(counts)][readable] = rows

    # ---- held-out tracks ----

    def make_metrics(self):
        """Watch the error and the use of each codebook."""
        config = self.hparams.quantizer.config
        return QuantizerMetrics(config["num_codebooks"], config["codebook_size"], self.device)

    def report(self, figures):
        """Add the loss; warn of codebooks that have collapsed."""
        figures["loss"] = figures["mel_mse"]
        entries = self.hparams.quantizer.config["codebook_size"]
        perplexities = [v for name, v in figures.items() if name.startswith("perplexity_of_")]
        text = (
            f"  mel MSE       {figures['mel_mse']:8.4f}   mean {figures['mel_mse_mean']:.4f}\n"
            f"  perplexity    {' '.join(f'{value:.0f}' for value in perplexities)} of {entries}, "
            f"codes used {figures['codes_used']:.0f}, dead {figures['dead_codes']:.0f}"
        )
        if figures["collapsed"]:
            logger.warning(
                f"{figures['collapsed']} of {len(perplexities)} codebooks have collapsed "
                "(a perplexity under 100 and under a tenth of what it could be): train longer or "
                "with a lower lr, make them smaller, or add more varied music"
            )
        return text

    def save_result(self, folder, **metadata):
        """Save the quantizer."""
        run = self.hparams
        save_targets(folder, run.quantizer, run.features, run.teacher, **metadata)


def main(argv):
    """Train or resume, then save the quantizer; see the head of this file."""
    with open_run(argv, OPTIONS, MODEL_OPTIONS) as (file, hparams, run_opts, overrides, plan):
        data = prepare_data(file, hparams, overrides)
        corpus_statistics(hparams, data.pieces, bar=not run_opts.noprogressbar)
        if teacher := hparams["teacher"]:  # its features are those that it was trained on
            hparams["features"].normalize.load_state_dict(teacher.normalize.state_dict())
        brain = QuantizerBrain.of_run(hparams, run_opts, plan)
        if teacher:
            teacher.to(brain.device)
        brain.fit_corpus(data)
        brain.export(Path(hparams["output_folder"]) / QUANTIZER)


if __name__ == "__main__":
    run_recipe(main)
