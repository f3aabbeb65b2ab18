"""Initial weights from another model: our exports, SpeechBrain, Hugging Face; no code runs.

init_sources.yaml declares what is copied: for each kind of source, our names and the names in it.
"""

import re
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file

from speechbrain_music.models.export import NAMED
from speechbrain_music.models.safe_folder import WEIGHTS
from speechbrain_music.utils.errors import UserError

# Parts of a pre-training run, and how the names of their tensors begin.
PARTS = {
    "blocks": r"encoder\.layers\.",
    "norm": r"encoder\.norm\.",
    "frontend": r"encoder\.frontend\.",
    "statistics": r"features\.normalize\.",
    "heads": r"(token_head|mel_head|cqt_head|mask)\.",
}
FILES = (WEIGHTS, "model.ckpt", "encoder.ckpt", "asr.ckpt")  # in a folder: the first that is there
COLUMNS = ("tensor", "part", "status", "source", "reason", "values")
LOADED = ("loaded", "reshaped")  # status of a tensor; else "new", or "unused" in the source

with open(Path(__file__).with_name("init_sources.yaml"), encoding="utf-8") as file:
    SOURCES = yaml.safe_load(file)

# ---- forms: what makes a tensor of ours from those of a source ----


def zero_bias(weight):
    """The bias of a layer that has none in the source, by its weight."""
    return torch.zeros(len(weight))


def joint_projection(query, key, value, bias_u):
    """Three (d, d) weights to SpeechBrain's (3 d, d), joined head by head.

    SpeechBrain divides scores by sqrt(d), the source by sqrt(d / heads): the query makes up for it.
    A bias of the key would add the same to all scores of a query, and is left out.
    """
    weights, heads = (query * len(bias_u) ** 0.5, key, value), len(bias_u)
    return torch.cat([w.view(heads, -1, w.shape[1]) for w in weights], dim=1).flatten(0, 1)


def position_bias(bias, query_bias):
    """(heads, d / heads) and the query's bias (d,), scaled as the query, to (d / heads, heads)."""
    return (len(bias) ** 0.5 * (bias + query_bias.view_as(bias))).reshape(-1, len(bias))


def output_bias(bias, weight, value_bias):
    """The output's bias and what the value's adds to it, as weights of attention add up to 1."""
    return bias + weight @ value_bias


FORMS = (torch.clone, torch.squeeze, zero_bias, joint_projection, position_bias, output_bias)
FORMS = {form.__name__: form for form in FORMS}


def describe(rows):
    """Rows of `initialise` as text: of each part, how much was loaded."""
    lines = []
    for part in PARTS:
        found = [row for row in rows if row["part"] == part]
        loaded = [row for row in found if row["status"] in LOADED]
        share = sum(row["values"] for row in loaded) / max(1, sum(row["values"] for row in found))
        lines.append(f"  {part:10s} {share:6.1%} of values: {len(loaded)} of {len(found)} tensors")
    lines.append(f"  {sum(row['part'] == '' for row in rows)} tensors of the source are not used")
    return "\n".join(lines)


def initialise(modules, source, parts):
    """Copies weights of a source into modules; returns what became of each tensor.

    `modules` (name -> module) are those of a pre-training run. `source` is a state dict in a file
    of safetensors or torch, or a folder with one of `FILES`. `parts` are keys of `PARTS`. A token
    mixer is loaded whole or not at all. Returns dicts: a tensor of ours, its part and status, its
    names in the source, the reason why it is new, its number of values.

    Raises UserError if the source cannot be read without running code, holds no known encoder,
    nothing of a part, other sizes or non-finite values.
    """
    path, state = _read(source)
    table, prefix = _recognise(state, path)
    own = {f"{m}.{n}": value for m in modules for n, value in modules[m].state_dict().items()}
    part_of = {name: part for name in own for part in PARTS if re.match(PARTS[part], name)}
    made_of = {name: _made_of(name, table, prefix, state) for name in part_of}
    # What is loaded whole or not at all: a token mixer, or one tensor.
    unit = {name: re.match(r"(encoder\.layers\.\d+\.mixer)?", name)[0] or name for name in made_of}
    lacking = {unit[name] for name, (_, names) in made_of.items() if not names}
    values, rows, unused = {}, [], set(state)
    for name, (form, names) in made_of.items():
        status, reason = "new", "not in init_parts"
        if part_of[name] in parts:
            reason = "no counterpart in the source" if unit[name] in lacking else ""
        if not reason:
            status = "loaded" if form is torch.clone else "reshaped"
            values[name] = _make(form, names, state, path)
            unused.difference_update(names)
        rows.append((name, part_of[name], status, names, reason, own[name].numel()))
    for part in parts:
        if part not in {part_of[name] for name in values}:
            raise UserError(f"{path} has no {part} for this model: leave it out of init_parts")
    _check_sizes(values, own, path)
    for name, value in values.items():
        own[name].copy_(value)
    rows += [("", "", "unused", [name], "", state[name].numel()) for name in sorted(unused)]
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def _read(source):
    """Returns the file that a source names, and its tensors."""
    source = Path(NAMED.get(str(source), source))
    path = next((source / name for name in FILES if (source / name).is_file()), source)
    if not path.is_file():
        raise UserError(f"init_from is {source}: pass a file or a folder with {' or '.join(FILES)}")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        return path, {str(n): v for n, v in state.items() if torch.is_tensor(v) and not v.is_meta}
    except Exception as error:  # whatever a file of anyone makes its reader raise
        raise UserError(
            f"init_from is {path}, which is no plain state dict ({type(error).__name__}): it is "
            "damaged or may run code, so save the state dict alone, as safetensors"
        ) from None


def _recognise(state, path):
    """Returns the table of a source, and the prefix of its encoder's names."""
    for kind in SOURCES["kinds"].values():
        for name in state:
            if found := re.fullmatch(f"(.*?){kind['marker']}", name):
                return kind["tensors"], found[1]
    raise UserError(f"{path} holds no known encoder: pass one of {', '.join(SOURCES['kinds'])}")


def _made_of(name, table, prefix, state):
    """Returns the form of a tensor of ours, and its names in the source; none if one is missing."""
    for pattern, (form, *names) in table.items():
        if found := re.fullmatch(pattern, name):
            names = [prefix + found.expand(template) for template in names]
            return FORMS[form], names if state.keys() >= set(names) else []
    return torch.clone, []


def _make(form, names, state, path):
    """Returns a tensor of ours in float32."""
    tensors = [state[name] for name in names]
    try:
        # Expanded tensors could take all memory; int8 values need their scales.
        if any(t.nbytes > t.untyped_storage().nbytes() or t.dtype == torch.int8 for t in tensors):
            raise ValueError
        value = form(*(tensor.float() for tensor in tensors))
        valid = value.isfinite().all()
    except (ArithmeticError, LookupError, RuntimeError, ValueError):  # of other shapes
        valid = False
    if not valid:
        raise UserError(f"{path} is damaged, or of int8, in {', '.join(names)}: take the original")
    return value


def _check_sizes(values, own, path):
    """Raises UserError for the first size that differs, with the option that sets it."""
    for option, pattern, axis in SOURCES["sizes"]:
        for name in values:
            if re.fullmatch(pattern, name) and values[name].ndim == own[name].ndim:
                theirs, ours = values[name].shape[axis], own[name].shape[axis]
                if theirs != ours:
                    remedy = f"pass --{option} {theirs}, or take another source"
                    raise UserError(
                        f"{path} has {option} {theirs}, and this model {ours}: {remedy}"
                    )
    for name in values:
        theirs, ours = tuple(values[name].shape), tuple(own[name].shape)
        if theirs != ours:
            remedy = "pass that model's options, or leave the part out of init_parts"
            raise UserError(f"{path} has {name} of shape {theirs}, this model {ours}: {remedy}")
