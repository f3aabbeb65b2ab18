"""Adam for models that are stacked along the first axis of their parameters."""

import torch
from torch.optim.adam import adam


class StackedAdam(torch.optim.Optimizer):
    """Adam with learning rates (P,) for P models stacked along the parameters' first axis."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "steps": 0})

    @torch.no_grad()
    def step(self):
        """One step of every model."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            for p in parameters:
                if not self.state[p]:
                    self.state[p] = {n: torch.zeros_like(p) for n in ("mean", "square")}
            rates = torch.as_tensor(group["lr"]).expand(len(parameters[0])).tolist()
            beta1, beta2 = group["betas"]
            fixed = {"beta1": beta1, "beta2": beta2, "eps": group["eps"], "weight_decay": 0.0}
            fixed |= {"amsgrad": False, "maximize": False, "fused": True}
            # Model by model: its weights and moments stay in the processor's cache, and the
            # arithmetic is torch's own.
            for row, rate in enumerate(rates):
                rows = [(p, p.grad, *self.state[p].values()) for p in parameters]
                lists = ([part[row] for part in column] for column in zip(*rows, strict=True))
                done = [torch.tensor(float(group["steps"]), device=p.device) for p in parameters]
                adam(*lists, [], done, lr=rate, **fixed)
            group["steps"] += 1

    def prune(self, which, parameters):
        """Keeps the models that (P,) bool `which` marks; `parameters` are their new ones."""
        (group,) = self.param_groups
        kept = {}
        for old, new in zip(group["params"], parameters, strict=True):
            if old in self.state:
                state = self.state[old]
                kept[new] = {name: value[which] for name, value in state.items()}
        self.state.clear()
        self.state.update(kept)
        group["params"] = list(parameters)
        group["lr"] = torch.as_tensor(group["lr"])[which.cpu()]
