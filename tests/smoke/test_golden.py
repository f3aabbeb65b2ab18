"""The numbers of the recipes on small inputs: they change only on purpose.

golden.json holds them from before the redesign of the project's layout: rows of metrics, digests of
weights, embeddings and probe logits. On the kind of processor and the torch that made them they
must be equal to the last bit, elsewhere nearly equal. With SBMUSIC_GOLDEN=new.json numbers that are
nearly equal are written there, for the processor at hand.
"""

import hashlib
import json
import math
import os
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny
import torch
from safetensors.torch import load_file
from tones import melody

from speechbrain_music.evaluation.tasks import find_task
from speechbrain_music.inference import MusicEncoder

GOLDEN = json.loads(Path(__file__).parents[1].joinpath("golden.json").read_text())
SYSTEMS = ("brn_sum", "brn_att", "cnf_sum", "cnf_att")
ROPE = "speechbrain_music.nnet.attention.RotaryAttention"
VARIANTS = {
    "rope": ("cnf_att", {"mixer": ROPE}),
    "dropout": ("brn_sum", {"dropout": 0.1, "augment": True}),
    "embedding_all": ("brn_sum", {"mask_fill": "embedding", "reconstruct": "all"}),
    "interpolation": ("brn_sum", {"mel_residual": "interpolation", "frontend_bypass": True}),
    "50_hz": ("brn_sum", {"frame_rate": 50, "gradient_checkpointing": True}),
    "scalar": ("brn_sum", {"normalization": "scalar"}),
    "codebooks": ("cnf_sum", {"num_codebooks": 2}),
}
# Golden numbers are of the paper's front-end and reconstruction.
PAPER = {"frontend_norm": False, "frontend_bypass": False, "reconstruct": "masked"}
# Golden numbers of tasks are of standardised features and these learning rates.
RATES = [1e-4, 1e-3, 1e-2]
TASKS = {
    "genre-mel": ("gtzan_genre", {"encoder": "mel"}),
    "genre-export": ("gtzan_genre", {}),
    "genre-mean_std": ("gtzan_genre", {"pooling": "mean_std", "standardize": "whiten"}),
    "genre-random": ("gtzan_genre", {"encoder": "random:{export}"}),
    "genre-tuned": ("gtzan_genre", {"freeze_encoder": False}),
    "genre-marble_compat": ("gtzan_genre", {"marble_compat": True}),
    "mtt-export": ("mtt_tagging", {}),
    "emo-export": ("emomusic_emotion", {}),
    "singer-export": ("vocalset_singer", {}),
}


def made_with():
    """What rounding depends on: the kind of processor, to its flags, and the torch."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    facts = dict(re.split(r"\s*:\s*", line, maxsplit=1) for line in reversed(lines) if ":" in line)
    keys = ("model name", "cpu family", "model", "stepping")
    flags = hashlib.sha256(facts.get("flags", "").encode()).hexdigest()[:8]
    processor = ", ".join([*(facts.get(key, "unknown") for key in keys), flags])
    return {"processor": processor, "torch": torch.__version__.partition("+")[0]}


def digest(*arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def compare(found, name):
    """Equal where the golden numbers were made; else numbers within 0.1% and no digests."""
    expected, new = GOLDEN[name], os.environ.get("SBMUSIC_GOLDEN")
    if not new and GOLDEN["made_with"] == made_with():
        assert found == expected
        return
    for key, value in expected.items():
        if isinstance(value, str):
            continue
        pairs = zip(flat(found[key]), flat(value), strict=True)
        assert all(math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-3) for a, b in pairs), key
    if new:
        known = json.loads(Path(new).read_text()) if Path(new).exists() else GOLDEN
        text = json.dumps(known | {"made_with": made_with(), name: found}, indent=1)
        Path(new).write_text(text + "\n")


def flat(value):
    if isinstance(value, dict):
        value = [value[key] for key in sorted(value)]
    return sum(map(flat, value), []) if isinstance(value, list) else [value]


def numbers_of(run, result):
    """Rows of metrics, and the weights that a run of pre-training or of the tokenizer wrote."""
    weights = load_file(run / result / "model.safetensors")
    each = sorted(digest(value.numpy())[:16] for value in weights.values())
    rows = tiny.rows(run, "train") + tiny.rows(run, "valid")
    dropped = {"tokens_per_second", "kind"}
    for row in rows:
        later = [key for key in row if key.startswith("block_share")]  # than the golden numbers
        for key in dropped | {*later}:
            row.pop(key, None)
    rows = [list(row.values()) for row in rows]
    return {"weights": hashlib.sha256(" ".join(each).encode()).hexdigest()[:16], "rows": rows}


def pretrain(tones, run, system, **options):
    options = {"number_of_epochs": 1} | PAPER | options
    import_module("recipes.pretrain.train").main(tiny.arguments(tones, run, system, **options))
    soundfile.write(run / "w.flac", melody(5, 44100, 2, np.random.default_rng(7)), 44100)
    encoder = MusicEncoder.from_export(run / "export")
    values = encoder.encode_file(run / "w.flac", layers="all").values
    sums = load_file(run / "export" / "model.safetensors").values()
    return numbers_of(run, "export") | {
        "weight_sums": round(sum(sorted(float(value.double().sum()) for value in sums)), 6),
        "embedding": digest(values)[:16],
        "embedding_mean": float(np.asarray(values, "f8").mean()),
        "embedding_std": float(np.asarray(values, "f8").std()),
    }


@pytest.mark.parametrize("system", SYSTEMS)
def test_systems(system, tone_folder, tmp_path):
    compare(pretrain(tone_folder, tmp_path, system), system)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_variants(name, tone_folder, tmp_path):
    system, options = VARIANTS[name]
    compare(pretrain(tone_folder, tmp_path, system, **options), name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", tiny.QUANTIZERS)
def test_trained_quantizers(kind, tone_folder, tmp_path):
    run = tmp_path / "quantizer"
    arguments = tiny.tokenizer_arguments(kind, tone_folder, run, number_of_epochs=1)
    import_module("recipes.tokenizer.train").main(arguments)
    compare(numbers_of(run, "quantizer"), f"tok-{kind}")
    found = pretrain(tone_folder, tmp_path / "run", "brn_sum", targets=run / "quantizer")
    compare(found, f"on-{kind}")


@pytest.fixture(scope="module")
def export(tone_folder, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    pretrain(tone_folder, run, "brn_sum")
    return run / "export"


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_tasks(name, export, replica, tmp_path):
    task, options = TASKS[name]
    features = export.with_name("features")  # of all tasks
    options = {"encoder": "{export}", "learning_rates": RATES} | options
    options |= {"feature_folder": features}
    if "marble_compat" not in options:
        options.setdefault("standardize", True)
    options["encoder"] = options["encoder"].format(export=export)
    data = replica(find_task(task).data_set)
    results, logits, _ = tiny.run_task(task, tmp_path, data_folder=data, **options)
    found = {
        "figures": {metric: figure["mean"] for metric, figure in results["figures"].items()},
        "logits": digest(logits)[:16],
        "logit_sum": float(logits.astype("f8").sum()),
    }
    compare(found, name)
