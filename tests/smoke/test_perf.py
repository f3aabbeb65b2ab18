"""Benchmarks measure and write their pages; both sides of a training step do the same work."""

import json
import signal
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from perf import SIZES, benchmark, embedding, growth, report, speechbrain_recipe, training
from perf import __main__ as command
from perf.benchmark import Comparison
from speechbrain_music.utils.errors import UserError

ROOT = Path(__file__).parents[2]
GIB = 2**30
MILLIONS = {"Wav2Vec2Conformer": 316, "MERT-like": 94.4}


def test_training_steps_train_everything_on_equal_tokens():
    candidates, counts = training.step(SIZES["step"]["tiny"], "cpu", None).candidates, set()
    for name, call in candidates.items():
        brain, (batch,) = call.func.__self__, call.args
        parameters = [p for p in brain.modules.parameters() if p.requires_grad]
        before = [parameter.detach().clone() for parameter in parameters]
        loss = call()
        assert not any(map(torch.equal, before, parameters)), name
        if isinstance(brain, speechbrain_recipe.RecipeBrain):
            waves, _, frames = batch
            count = len(waves) * len(frames) // 4
        else:
            count = batch.mask.sum().item()
            loss = brain.losses["cross_entropy"] / count
        assert abs(loss - np.log(64)) < 2  # of a uniform prediction
        counts.add(count)
    assert len(candidates) == 7 and len(counts) == 1


def test_a_compiled_step_is_one_of_the_candidates(monkeypatch):
    compiled = Mock(side_effect=lambda module, **_: module)
    monkeypatch.setattr(torch, "compile", compiled)
    variants = SIZES["step"]["full"][-1]
    size = [*SIZES["step"]["tiny"][:-1], variants]
    brain = training.step(size, "cpu", None).candidates["brn_sum, compiled"].func.__self__
    parts = [call.args[0] for call in compiled.call_args_list]
    assert brain.modules.encoder in parts and all(p in brain.modules.values() for p in parts)


@pytest.mark.parametrize(
    ("bound", "value", "targets"),
    [(">=", 0.5, {0.5: True, 0.6: False}), ("<=", 2, {2: True, 1.6: False, None: None})],
)
def test_ratio_is_compared_with_its_target(bound, value, targets):
    times = {"a": [2.0, 4.0, 2.0], "b": [1.0, 2.0, 1.0]}
    for target, met in targets.items():
        found = benchmark.compare(Comparison("", "a", "b", target, bound=bound), times, {})
        assert found["ratio"] == {"median": value, "q1": value, "q3": value}
        assert found["met"] is met


@pytest.mark.parametrize(
    ("work", "arguments", "limits", "outcome"),
    [
        (np.ones, (2 * GIB, np.uint8), {"max_bytes": 3 * GIB // 2}, growth.NO_MEMORY),
        (torch.empty, (2**50,), {}, growth.NO_MEMORY),
        (time.sleep, (60,), {"max_seconds": 0.5}, growth.TIMEOUT),
        (signal.raise_signal, (signal.SIGKILL,), {}, growth.NO_MEMORY),
    ],
)
def test_process_is_ended_at_its_limits(work, arguments, limits, outcome):
    assert growth.run_isolated(work, *arguments, **limits) == (outcome, None)


def test_error_in_a_process_is_raised():
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        growth.run_isolated(torch.dot, torch.ones(2), torch.ones(3))


def test_every_benchmark_is_measured_and_written(tmp_path, capsys):
    command.main(["--size", "tiny", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "cpu.json").read_text(encoding="utf-8"))
    page = (tmp_path / "cpu.md").read_text(encoding="utf-8")
    assert list(found) == list(command.BENCHMARKS) and page in capsys.readouterr().out
    for result in found.values():
        assert f"## {result['label']}\n" in page
        for c in result["comparisons"]:
            if c["candidate"] == "brn_sum, compiled":  # takes a minute, whatever the size
                assert c["ratio"] is None
                continue
            assert c["ratio"]["median"] > 0 and (c["met"] is None) == (c["target"] is None)
            assert f"| {c['sub_label']} | {c['candidate']}: " in page
        assert result["run"]["command"] == f"python -m perf --size tiny --out {tmp_path}"
        assert "torch threads " in result["run"]["machine"]
    extra = found["quantizer"]["extra_bytes"]
    # All differences, in float32: 8 MiB. The kernel counts pages in batches: some 100 KB are noise.
    assert 7 * 2**20 < extra["SpeechBrain"] < 2**24
    assert extra["ours"] < extra["SpeechBrain"]
    assert set(found["growth"]["outcomes"].values()) == {growth.MEASURED}
    assert len(found["growth"]["seconds"]) == 2 * 6 + 1
    for name in [*embedding.PEERS, *embedding.SYSTEMS]:
        assert f"\n| {name} | " in page


def test_point_beyond_the_limits_is_a_result(tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "MAX_BYTES", 2**20)
    monkeypatch.setitem(SIZES["growth"]["tiny"], "lengths", [1])
    command.main(["growth", "--size", "tiny", "--out", str(tmp_path)])
    page = (tmp_path / "cpu.md").read_text(encoding="utf-8")
    assert "| attention, forward | does not fit |" in page
    assert page.count("not measured | <= 1.1 | **missed** |") == 4


def test_committed_pages_are_made_of_their_json():
    folder = ROOT / "docs/results/speed"
    for device in ("cpu", "cuda"):
        stored = json.loads((folder / f"{device}.json").read_text(encoding="utf-8"))
        text = report.page(device, stored)
        assert (folder / f"{device}.md").read_text(encoding="utf-8") == text, device


def test_second_run_keeps_the_other_benchmarks(tmp_path):
    for names in (["quantizer", "data"], ["quantizer", "quantizer"]):
        command.main([*names, "--size", "tiny", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "cpu.json").read_text(encoding="utf-8"))
    commands = {name: result["run"]["command"] for name, result in found.items()}
    assert list(commands) == ["quantizer", "data"]
    assert commands["quantizer"].startswith("python -m perf quantizer quantizer --size tiny")
    assert commands["data"].startswith("python -m perf quantizer data --size")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("quantiser", "unknown benchmark quantiser: choose from quantizer, summary"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        command.main(options.split())


def test_failure_keeps_what_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(command.BENCHMARKS, "data", Mock(side_effect=OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        command.main(["quantizer", "data", "--size", "tiny", "--out", str(tmp_path)])
    assert list(json.loads((tmp_path / "cpu.json").read_text())) == ["quantizer"]


@pytest.mark.parametrize("name", embedding.PEERS)
def test_encoder_of_others_has_its_size_rate_and_independent_items(name):
    sample_rate, token_rate = (embedding.PEERS[name][key] for key in ("sample_rate", "token_rate"))
    with torch.device("meta"):
        full = embedding.make_peer(name)
    assert sum(map(torch.numel, full.parameters())) / 1e6 == pytest.approx(MILLIONS[name], 0.01)
    waves = torch.randn(2, 4 * sample_rate)
    model = embedding.make_peer(name, "tiny")
    with torch.no_grad():
        states, alone = (embedding.last_hidden_state(model, part) for part in (waves, waves[1:]))
    assert 4 * token_rate - 1 <= states.shape[1] <= 4 * token_rate
    assert torch.allclose(states[1:], alone, atol=1e-5)
