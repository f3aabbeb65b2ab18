"""Heads of frame tasks: padding-safe, as many logits as said, no context where none is promised."""

import pytest
import torch

from speechbrain_music.nnet.frame_heads import HEADS, FrameHead


def head_of(kind, **options):
    torch.manual_seed(0)
    shape = {"mean": torch.randn(2, 6), "std": torch.rand(2, 6) + 0.5, "outputs": 3, "hidden": 16}
    return FrameHead(kind, **shape, **options).eval()


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("rates", [{}, {"up": 2}, {"down": 3}])
def test_an_item_has_the_same_logits_in_a_batch_as_alone(kind, rates):
    head, x = head_of(kind, **rates), torch.randn(3, 40, 2, 6)
    lengths = torch.tensor([40, 27, 1])
    together = head(x, lengths)
    assert together.shape == (3, head.steps(40), 3)
    for item, length in enumerate(lengths.tolist()):
        alone = head(x[item : item + 1, :length], torch.tensor([length]))[0]
        steps = head.steps(length)
        assert alone.shape == (steps, 3)
        # The mean of frames that padding cuts is over other frames: but the last.
        same = steps - (head.down > 1 and length % head.down > 0)
        torch.testing.assert_close(together[item, :same], alone[:same], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind, reach", [("mlp", 0), ("tcn", 1023)])
def test_context(kind, reach):
    head, x = head_of(kind), torch.randn(1, 2200, 2, 6)
    other = x.clone()
    other[0, 1100] += 1
    lengths = torch.tensor([2200])
    changed = (head(x, lengths) != head(other, lengths)).any(dim=2)[0].nonzero()[:, 0]
    assert 1100 in changed and changed.min() >= 1100 - reach and changed.max() <= 1100 + reach
    assert (len(changed) > 1) == (reach > 0)


def test_unknown_kind():
    with pytest.raises(ValueError, match="choose mlp or tcn"):
        head_of("lstm")
