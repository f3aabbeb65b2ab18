"""A quantizer in training."""

from torch import nn


class Tokenizer(nn.Module):
    """A `ResidualQuantizer` and its `CodebookLearner`: a checkpoint holds both."""

    def __init__(self, quantizer, learner):
        super().__init__()
        self.quantizer = quantizer
        self.learner = learner

    def forward(self, x):
        """Through the quantizer and back: (..., 512) to a `Reconstruction`."""
        return self.quantizer.learn(x)
