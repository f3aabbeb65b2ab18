"""Around a quantizer's training: its codebooks, whether they collapse, what is written."""

import logging

import torch

from speechbrain_music.brains.segments import SegmentBrain
from speechbrain_music.metrics.quantization import QuantizerMetrics
from speechbrain_music.models.frontend import token_count
from speechbrain_music.models.targets import save_targets

logger = logging.getLogger(__name__)

OFFERED = 16  # tokens of each crop that dead entries may be put on
PANELS = {
    "mel MSE": [
        ("valid", "mel_mse", "held-out"),
        ("train", "mel_mse", "training"),
        ("valid", "mel_mse_mean", "the corpus's mean"),
    ],
    "codebooks on held-out tracks": [
        ("valid", "codes_used", "codes used"),
        ("valid", "perplexity", "perplexity"),
    ],
    "entries restarted so far": [("train", "restarted", None)],
    "gap to what is quantized": [("train", "gap", None)],
    "learning rate": [("train", "learning_rate", None)],
    "gradient norm before clipping": [("train", "gradient_norm", None)],
}


def valid_tokens(batch):
    """(B, T) bool, True for tokens that are music: not past an item's end, of a readable file.

    batch: SegmentBatch.

    Example
    -------
    >>> from speechbrain_music.dataio.segments import SegmentBatch
    >>> mask = torch.tensor([[True, False, False], [True, False, False], [False, False, False]])
    >>> lengths = torch.tensor([2880, 1900, 2880])  # the last could not be read
    >>> valid_tokens(SegmentBatch(None, lengths, mask, None, None, []))
    tensor([[ True,  True,  True],
            [ True,  True, False],
            [False, False, False]])
    """
    mask, lengths = batch.mask, token_count(batch.samples)
    steps = torch.arange(mask.shape[1], device=mask.device)
    return (steps < lengths.unsqueeze(1)) & mask.any(dim=1, keepdim=True)


class TokenizerBrain(SegmentBrain):
    """Everything of a quantizer's training but the forward pass and the loss.

    A subclass gives `compute_forward`, returning (Reconstruction, vectors) of the M valid tokens,
    in their order, and `compute_objectives`, the loss summed over them.

    Arguments
    ---------
    **brain
        As `SegmentBrain`. `hparams["model"]` is a `Tokenizer`.

    Example
    -------
    >>> from speechbrain_music.nnet.trained_quantizer import Reconstruction
    >>> vectors = torch.zeros(3, 512)
    >>> back = Reconstruction(vectors + 2, None, None, gap=torch.ones(3))
    >>> TokenizerBrain.sums(None, None, (back, vectors))  # over tokens
    {'mel_mse': tensor(12.), 'gap': tensor(3.)}
    """

    panels = PANELS

    def __init__(self, **brain):
        super().__init__(**brain)
        self._offered = None

    def count(self, batch):
        """Valid tokens."""
        return valid_tokens(batch).sum()

    def parts(self):
        """The two maps."""
        quantizer = self.hparams.model.quantizer
        return {"down": quantizer.down, "up": quantizer.up}

    def sums(self, batch, outputs):
        """Mel error and gap over valid tokens."""
        back, vectors = outputs
        error = (back.vectors - vectors).square().mean(dim=-1)
        return {"mel_mse": error.sum(), "gap": back.gap.sum()}

    def state(self):
        """How many entries have been restarted so far."""
        learner = self.hparams.model.learner
        return {} if learner is None else {"restarted": int(learner.restarted.sum())}

    # ---- codebooks ----

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Shows the batch to the learner, which moves the codebooks with each optimiser step."""
        if self.hparams.model.learner is not None:
            self._teach(batch, outputs[0], should_step)
        super().on_fit_batch_end(batch, outputs, loss, should_step)

    def _teach(self, batch, back, should_step):
        model = self.hparams.model
        model.learner.observe(model.quantizer, back.latent, back.tokens)
        self._offer(batch, back.latent, self.optimizer_step - should_step)
        if not should_step:
            return
        if self.is_finite():
            offered = self.reduce_sum(self._offered)
            offered = offered.transpose(0, 1).flatten(0, 1)  # one of each crop, then a second ...
            offered = offered[offered[:, -1] > 0, :-1]
            window = self.reduce_sum(model.learner.window)
            model.learner.update(model.quantizer, window, offered)
        else:
            model.learner.clear()
        self._offered = None

    def _offer(self, batch, latent, step):
        """Notes tokens of each crop, with a 1 behind them, in the crop's place in the whole step.

        What all processes note can then be added up, and does not depend on how many there are.
        """
        if self._offered is None:
            size = (self.hparams.effective_batch, OFFERED, latent.shape[1] + 1)
            self._offered = latent.new_zeros(size)
        counts = valid_tokens(batch).sum(dim=1)
        starts, readable = counts.cumsum(dim=0) - counts, counts > 0
        # Evenly over the crop, each time from another token on.
        places = counts.unsqueeze(1) * torch.arange(OFFERED, device=counts.device) // OFFERED + step
        places = (starts.unsqueeze(1) + places % counts.clamp(min=1).unsqueeze(1))[readable]
        micro = (self.step - 1) % self.grad_accumulation_factor
        first = (micro * self.world_size + self.rank) * self.hparams.batch_size
        rows = torch.cat([latent, torch.ones_like(latent[:, :1])], dim=1)[places]
        self._offered[first : first + len(counts)][readable] = rows

    # ---- held-out tracks ----

    def new_measures(self):
        """Of what is kept of the mel, and of the codebooks' use."""
        config = self.hparams.model.quantizer.config
        return QuantizerMetrics(config["num_codebooks"], config["codebook_size"], self.device)

    def measure(self, batch, outputs):
        """Adds a held-out batch to the measures."""
        back, vectors = outputs
        self.measures.update(back.vectors, vectors, back.tokens)

    def held_out_loss(self, figures):
        """The mel error."""
        return figures["mel_mse"]

    def table(self, figures):
        """The error beside the mean's, and each codebook's use."""
        perplexities = [v for name, v in figures.items() if name.startswith("perplexity_of_")]
        entries = self.hparams.model.quantizer.config["codebook_size"]
        return (
            f"  mel MSE       {figures['mel_mse']:8.4f}   mean {figures['mel_mse_mean']:.4f}\n"
            f"  perplexity    {' '.join(f'{value:.0f}' for value in perplexities)} of {entries}, "
            f"codes used {figures['codes_used']:.0f}, dead {figures['dead_codes']:.0f}"
        )

    def watch(self, figures):
        """Warns of codebooks that have collapsed."""
        if figures["collapsed"]:
            logger.warning(
                f"{figures['collapsed']} of {self.measures.codebooks} codebooks have collapsed "
                "(a perplexity under 100 and under a tenth of what it could be): train longer or "
                "with a lower lr, make them smaller, or give more varied music"
            )

    def write(self, folder, run, meta, **facts):
        """Writes the quantizer."""
        save_targets(
            folder,
            run["model"].quantizer,
            run["features"],
            system=run["system"],
            seed=run["seed"],
            step=meta["step"],
            held_out_error=meta["loss"],
            **facts,
        )
        logger.info(f"Wrote the quantizer of step {meta['step']} to {folder}")
