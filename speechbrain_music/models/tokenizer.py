"""A quantizer in training."""

from torch import nn


class Tokenizer(nn.Module):
    """A quantizer, and what moves its codebooks; a checkpoint holds both.

    Arguments
    ---------
    quantizer : TrainedQuantizer
        For vectors of 512 values.
    learner : CodebookLearner, optional
        Of a quantizer with codebooks.

    Example
    -------
    >>> import torch
    >>> from speechbrain_music.nnet.finite_scalar_quantizer import FiniteScalarQuantizer
    >>> back = Tokenizer(FiniteScalarQuantizer(512))(torch.randn(3, 512))
    >>> back.vectors.requires_grad, back.tokens.shape
    (True, torch.Size([3, 1]))
    """

    def __init__(self, quantizer, learner=None):
        super().__init__()
        self.quantizer = quantizer
        self.learner = learner

    def forward(self, x):
        """Through the quantizer and back: (..., 512) to a `Reconstruction`."""
        return self.quantizer.learn(x)
