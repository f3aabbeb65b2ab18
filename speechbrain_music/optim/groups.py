"""Parameter groups of optimisers."""


def decay_groups(module, weight_decay):
    """Two parameter groups of a module: with weight decay (matrices), without (norms, biases)."""
    decayed, plain = [], []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            is_bias = parameter.ndim < 2 or "bias" in name.rsplit(".", 1)[-1]
            (plain if is_bias else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]


def separate_groups(groups, parameters, lr):
    """Parameter groups in which `parameters` are apart, with the learning rate `lr`.

    The groups of the others come first; those without parameters are left out.
    """
    chosen = {id(parameter) for parameter in parameters}
    others = [g | {"params": [p for p in g["params"] if id(p) not in chosen]} for g in groups]
    apart = [g | {"params": [p for p in g["params"] if id(p) in chosen], "lr": lr} for g in groups]
    return [group for group in others + apart if group["params"]]


def layer_decay_groups(encoder, lr, layer_decay, weight_decay):
    """Parameter groups for fine-tuning: lower learning rates towards the input.

    `encoder` has `frontend`, `layers` and `norm`, as `models.encoder.Encoder`. The last layer and
    the norm have the rate `lr`, each layer before `layer_decay` times that of the next. Two groups
    per layer, the front-end first; for weight decay see `decay_groups`.
    """
    parts = [encoder.frontend, *encoder.layers]
    below = [*reversed(range(len(parts))), 0]  # the norm has the last layer's rate
    return [
        group | {"lr": lr * layer_decay**depth}
        for part, depth in zip([*parts, encoder.norm], below, strict=True)
        for group in decay_groups(part, weight_decay)
        if group["params"]
    ]
