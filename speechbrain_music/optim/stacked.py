"""Adam for models that are stacked along the first axis of their parameters."""

import torch
from torch.optim.adam import adam


class StackedAdam(torch.optim.Optimizer):
    """torch's Adam with learning rates (P,) for P models stacked along the parameters' first axis.

    Example
    -------
    >>> weight = torch.nn.Parameter(torch.zeros(2, 3))
    >>> optimizer = StackedAdam([weight], lr=torch.tensor([0.1, 0.2]))
    >>> weight.sum().backward()
    >>> optimizer.step()
    >>> [[round(x, 4) for x in row] for row in weight.tolist()]
    [[-0.1, -0.1, -0.1], [-0.2, -0.2, -0.2]]
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "steps": 0})

    @torch.no_grad()
    def step(self):
        """One step of every model."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            for parameter in parameters:
                state = self.state[parameter]
                if not state:
                    state["mean"] = torch.zeros_like(parameter)
                    state["square"] = torch.zeros_like(parameter)
            rates = torch.as_tensor(group["lr"]).expand(len(parameters[0])).tolist()
            states = [self.state[parameter] for parameter in parameters]
            # Model by model: its weights and moments stay in the processor's cache, and the
            # arithmetic is torch's own.
            for row, rate in enumerate(rates):
                adam(
                    [parameter[row] for parameter in parameters],
                    [parameter.grad[row] for parameter in parameters],
                    [state["mean"][row] for state in states],
                    [state["square"][row] for state in states],
                    [],
                    [torch.tensor(float(group["steps"]), device=p.device) for p in parameters],
                    fused=True,
                    amsgrad=False,
                    has_complex=False,
                    beta1=group["betas"][0],
                    beta2=group["betas"][1],
                    lr=rate,
                    weight_decay=0.0,
                    eps=group["eps"],
                    maximize=False,
                )
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
