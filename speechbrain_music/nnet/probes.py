"""Stack of probes with one hidden layer each, trained together."""

import torch
from torch import nn


class ProbeStack(nn.Module):
    """P probes, each Linear - ReLU - dropout - Linear on its own view of L hidden states.

    A probe gets one hidden state, or the sum of all with learned softmax weights. Its initial
    weights depend on its seed only: it trains as it would alone. Probes that have ended leave the
    stack (`prune`); the best weights of all stay (`save_best`, `restore_best`). A stack without
    "all" is faster: no gradient has to reach its input.

    `choices` are (P,) of (layer, seed), sorted by seed: the index of a hidden state, or "all"; a
    whole number; else ValueError. `layers` hidden states have width `dim`; a probe has `hidden`
    values and `outputs` logits. The masks of `dropout` come with the batch (see `forward`). "all"
    mixes hidden states from `mix_from` on, at first in equal parts, or with `random_mix` by the
    softmax of standard normal values, as MARBLE does.
    """

    def __init__(
        self, choices, layers, dim, outputs, hidden=512, dropout=0.2, mix_from=0, random_mix=False
    ):
        super().__init__()
        self.choices = list(choices)
        self.seeds = sorted({seed for _, seed in self.choices})
        if [seed for _, seed in self.choices] != sorted(seed for _, seed in self.choices):
            raise ValueError("choices must be sorted by seed")
        fixed = torch.zeros(len(self.choices), layers)
        for row, (layer, _) in enumerate(self.choices):
            if layer != "all":
                if not 0 <= layer < layers:
                    raise ValueError(f"layer is {layer!r}: choose 0 to {layers - 1}, or 'all'")
                fixed[row, layer] = 1.0
        self.size = {"layers": layers, "dim": dim, "outputs": outputs, "hidden": hidden}
        self.size |= {"dropout": dropout, "mix_from": mix_from, "random_mix": random_mix}
        self.hidden, self.dropout, self.mix_from = hidden, dropout, mix_from
        drawn = {seed: self._draw(seed, random_mix) for seed in self.seeds}
        self.mix = None
        for name in next(iter(drawn.values())):
            if name != "mix" or "all" in dict(self.choices):
                rows = [drawn[seed][name] for _, seed in self.choices]
                setattr(self, name, nn.Parameter(torch.stack(rows)))
        self.register_buffer("fixed", fixed)
        self.best, self.first = {}, self.choices
        # Places in the first stack of the remaining probes.
        self.places = torch.arange(len(self.choices))

    def _draw(self, seed, random_mix):
        """One probe's first weights, as `nn.Linear` draws them, from a seed of its own."""
        generator = torch.Generator().manual_seed(seed)
        layers, dim, outputs = (self.size[name] for name in ("layers", "dim", "outputs"))

        def uniform(*shape, fan_in):
            return (2 * torch.rand(shape, generator=generator) - 1) / fan_in**0.5

        weights = {
            "weight1": uniform(dim, self.hidden, fan_in=dim),
            "bias1": uniform(1, self.hidden, fan_in=dim),
            "weight2": uniform(self.hidden, outputs, fan_in=self.hidden),
            "bias2": uniform(1, outputs, fan_in=self.hidden),
        }
        start = torch.randn(layers, generator=generator) if random_mix else torch.zeros(layers)
        return weights | {"mix": start}

    def weighting(self):
        """(P, L) weight of each hidden state for a probe: one of them, or its learned mix."""
        if self.mix is None:
            return self.fixed
        mix = self.mix.clone()
        mix[:, : self.mix_from] = -torch.inf
        learned = (self.fixed.sum(dim=1) == 0).unsqueeze(1)
        return torch.where(learned, mix.softmax(dim=1), self.fixed)

    def forward(self, x, dropout=None):
        """Logits of all probes: (S, B, L, d) to (P, B, C).

        S is the number of `seeds`, in whose order they are, or 1: one batch for all. The optional
        `dropout` is (S, B, hidden), factors of the hidden values: 0, or 1 / (1 - probability).
        """
        weighting, batch = self.weighting(), self.batch_of(len(x))
        seen = torch.cat(
            [torch.einsum("pl,bld->pbd", weighting[batch == s], x[s]) for s in range(len(x))]
        )
        hidden = torch.baddbmm(self.bias1, seen, self.weight1).relu()
        if dropout is not None:
            hidden = hidden * dropout[batch]
        return torch.baddbmm(self.bias2, hidden, self.weight2)

    def batch_of(self, batches):
        """(P,) number of the batch, of S, for each probe: that of its seed, or the only one."""
        if batches == 1:
            return torch.zeros(len(self.choices), dtype=torch.long)
        return torch.tensor([self.seeds.index(seed) for _, seed in self.choices])

    def save_best(self, which):
        """Stores the weights of the probes that (P,) bool `which` marks as their best so far."""
        for name, value in self.named_parameters():
            if name not in self.best:
                self.best[name] = value.detach().clone()
            else:
                self.best[name][self.places[which.cpu()]] = value.detach()[which]

    def prune(self, which):
        """Removes the probes that (P,) bool `which` does not mark."""
        for name, value in self.named_parameters():
            setattr(self, name, nn.Parameter(value.detach()[which]))
        self.fixed = self.fixed[which]
        self.places = self.places[which.cpu()]
        self.choices = [choice for choice, stays in zip(self.choices, which, strict=True) if stays]

    def restore_best(self, rows):
        """A new stack of the first stack's probes in `rows`, with their best weights."""
        size = self.size
        stack = ProbeStack([self.first[row] for row in rows], **size).to(self.fixed.device)
        with torch.no_grad():
            for name, value in stack.named_parameters():
                value.copy_(self.best[name][rows])
        return stack
