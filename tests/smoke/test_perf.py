"""perf measures, writes its pages and JSON, and finds candidates that compute something else."""

import json
import os
import re
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from perf import __main__ as command
from perf import benchmark, data, growth, layers, many_gpus, probes, report, steps
from perf.benchmark import AT_LEAST, AT_MOST, Benchmark, Comparison, Mismatch
from perf.training import load
from speechbrain_music.models.frontend import TOKEN_RATE

ROOT = Path(__file__).parents[2]
GIB = 2**30
RUN = {"command": "python -m perf", "date": "2026-01-31", "commit": "abc", "machine": {"cores": 2}}


def written(folder, name, result, device="cpu"):
    """The page of one benchmark, and its JSON as read back."""
    report.write(folder, {name: result | {"run": RUN}}, device)
    found = json.loads((folder / f"{device}.json").read_text(encoding="utf-8"))
    page = folder / (f"{name}.md" if name in ("growth", "embedding") else f"{device}.md")
    return page.read_text(encoding="utf-8"), found[name]


# ---- candidates must agree ----


def replace_candidate(build, name, change):
    """The builder with one candidate replaced by `change` of it."""

    def changed(size, device):
        right = build(size, device)
        wrong = change(right.candidates[name])
        return replace(right, candidates={**right.candidates, name: wrong})

    return changed


def off_by_one(right):
    def wrong():
        result = right()
        if isinstance(result, list):  # the output, then gradients
            return [*result[:-1], result[-1] + 1]
        return result + 1

    return wrong


def idle(right):
    return lambda: [torch.tensor(4.0), 1.0, torch.tensor(10.0)]


@pytest.mark.parametrize(
    ("build", "name", "change", "message"),
    [
        (layers.quantizer, "ours", off_by_one, "4 of 4 tokens differ"),
        (layers.summary_mixing, "SummaryMixing", off_by_one, "equations differ"),
        (layers.summary_mixing, "matrix products", lambda _: lambda: None, "FLOP"),
        (layers.branchformer, "attention", off_by_one, "Branchformer: .* differ"),
        (layers.conformer, "attention", off_by_one, "Conformer: .* differ"),
        (probes.probes, "stacked", off_by_one, "probes differ"),
        (steps.step, "brn_sum", off_by_one, "masked tokens differ"),
        (steps.step, "brn_att", idle, "brn_att: .* are not trained"),
        (steps.parts, "mixing", lambda _: lambda: None, "its parts"),
    ],
)
def test_a_candidate_that_computes_something_else_is_an_error(build, name, change, message):
    right = build("tiny")
    right.check(right.candidates)
    with pytest.raises(Mismatch, match=message):
        benchmark.measure(replace_candidate(build, name, change), "tiny", seconds=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [(lambda right: lambda: right()[:-1], "flac: 23999 samples"), (off_by_one, "flac: differs")],
)
def test_reading_another_part_of_the_file_is_an_error(change, message, tmp_path):
    data.write_files(tmp_path, seconds=4)
    build = replace_candidate(partial(data.reading, folder=tmp_path), "flac", change)
    with pytest.raises(Mismatch, match=message):
        benchmark.measure(build, "tiny", seconds=0)


def test_parts_leave_no_gradient_to_the_step():
    candidates = steps.parts("tiny").candidates
    parameters = candidates[steps.WHOLE].func.parameters
    for name, call in candidates.items():
        call()
        assert all(parameter.grad is None for parameter in parameters), name


# ---- ratios, memory, processes ----


@pytest.mark.parametrize(
    ("bound", "target", "met"),
    [
        (AT_LEAST, 0.5, True),
        (AT_LEAST, 1.0, False),
        (AT_MOST, 2.0, True),
        (AT_MOST, 1.6, False),
        (AT_MOST, None, None),
    ],
)
def test_a_ratio_is_compared_with_its_target(bound, target, met):
    times = {"a": [2.0, 4.0, 2.0], "b": [1.0, 2.0, 1.0]}
    found = benchmark.compare(Comparison("", "a", "b", target, bound=bound), times, {})
    value = 0.5 if bound == AT_LEAST else 2.0
    assert found["ratio"] == {"median": value, "q1": value, "q3": value}
    assert found["met"] is met


def test_parts_are_added_within_a_round(monkeypatch):
    times = {"whole": [10.0, 20.0, 10.0], "a": [1.0, 2.0, 4.0], "b": [4.0, 8.0, 1.0]}
    monkeypatch.setattr(benchmark, "time_interleaved", lambda *_: dict(times))
    comparison = Comparison("x", "both", "whole", bound=AT_MOST)
    made = Benchmark("", dict.fromkeys(times), [comparison], sums={"both": ["a", "b"]})
    [found] = benchmark.measure(lambda *_: made)["comparisons"]
    assert set(found["ratio"].values()) == {0.5}


def test_extra_memory_of_a_call():
    # SpeechBrain's holds all differences, (1, 8192, 250, 16) floats: 125 MiB.
    assert benchmark.extra_memory(layers.quantizer, "SpeechBrain", "quick") > 100 * 2**20


def allocate(size):
    held = np.ones(size, np.uint8)
    time.sleep(60)
    return held.size


def fail(message):
    raise RuntimeError(message)


def kill_itself():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("work", "arguments", "limits", "outcome"),
    [
        (allocate, (2 * GIB,), {"max_bytes": 3 * GIB // 2}, benchmark.NO_MEMORY),
        (allocate, (1,), {"max_seconds": 0.5}, benchmark.TIMEOUT),
        (fail, ("DefaultCPUAllocator: can't allocate memory: ...",), {}, benchmark.NO_MEMORY),
        (kill_itself, (), {}, benchmark.NO_MEMORY),
    ],
)
def test_a_process_is_ended_at_its_limits(work, arguments, limits, outcome):
    assert benchmark.run_isolated(work, *arguments, **limits) == (outcome, None)


def test_a_process_that_fails_is_an_error():
    with pytest.raises(RuntimeError, match="exit code 1"):
        benchmark.run_isolated(fail, "mat1 and mat2 shapes cannot be multiplied")


# ---- growth, data, sweep ----


def test_growth_is_measured_written_and_drawn(tmp_path):
    plan = growth.PLANS["tiny"]
    result = growth.growth("tiny")
    encoders = len(plan.seconds) * len(growth.MIXERS) * len(growth.WORKS)
    assert len(result["points"]) == encoders + len(plan.step_seconds)
    for point in result["points"]:
        assert point["outcome"] == benchmark.MEASURED
        assert point["call_seconds"]["median"] > 0 and point["extra_bytes"] >= 0
    assert [comparison["met"] in (True, False) for comparison in result["comparisons"]] == [
        True
    ] * 4
    page, found = written(tmp_path, "growth", result)
    assert found["points"] == result["points"] and "](growth_cpu.png)" in page
    assert (tmp_path / "growth_cpu.png").read_bytes().startswith(b"\x89PNG")


def test_a_point_beyond_the_limits_is_a_result(tmp_path):
    plan = growth.PLANS["tiny"]._replace(seconds=(1,), step_seconds=(), max_bytes=2**20)
    page, found = written(tmp_path, "growth", growth.growth(plan=plan))
    assert {point["outcome"] for point in found["points"]} == {benchmark.NO_MEMORY}
    assert not any(comparison["met"] for comparison in found["comparisons"])
    assert "| attention, forward | does not fit |" in page and "not measured | <= 1.1" in page


def test_attention_needs_memory_for_all_pairs_of_tokens():
    options, need = growth.PLANS["tiny"].encoder, {}
    for mixing in ("summary", "attention"):
        point = growth.Point(mixing, growth.TRAINING, 24)
        _, (_, need[mixing]) = benchmark.run_isolated(growth.measure_point, point, options)
    tokens = 24 * TOKEN_RATE
    assert need["attention"] - need["summary"] > 4 * tokens**2 * 4  # float32, 4 heads


def test_the_data_path(tmp_path):
    result = data.data("tiny", seconds=0)
    reading = 2 * len(data.FORMATS)
    assert len(result["comparisons"]) == reading + len(data.LOOPS["tiny"])
    for comparison in result["comparisons"]:
        assert comparison["ratio"]["median"] > 0
    for comparison in result["comparisons"][reading:]:
        assert comparison["ratio"]["q3"] < 1  # waiting is a part of all
    page, found = written(tmp_path, "data", result)
    assert page.count("| data path: ") >= len(found["comparisons"])


def test_a_whole_sweep(tmp_path):
    page, found = written(tmp_path, "sweep", probes.sweep("tiny"))
    assert "sweep of 9 probes on 40 tracks of 2 x 8" in page
    assert found["comparisons"][0]["met"]


# ---- many GPUs ----


def test_the_estimate_describes_the_yaml_and_stands_in_the_docs(capsys):
    hparams = load("brn_sum")
    defaults = many_gpus.OPTIONS
    assert defaults["batch_segments"] == hparams["effective_batch"]
    assert (hparams["segment_seconds"], TOKEN_RATE) == (30, 25)
    assert defaults["steps"] == hparams["max_steps"]
    assert defaults["parameters"] == sum(
        p.numel() for p in hparams["model"].parameters() if p.requires_grad
    )
    many_gpus.main([])
    assert capsys.readouterr().out in (ROOT / "docs/many_gpus.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--gpus 7", "gpus is 7: use a divisor of batch_segments, 1024"),
        ("--tokens_per_second 0", "tokens_per_second is 0.0: it must be above 0"),
    ],
)
def test_the_estimate_refuses(options, message, capsys):
    with pytest.raises(SystemExit):
        many_gpus.main(options.split())
    assert message in capsys.readouterr().err


# ---- pages and the command ----


def test_the_committed_pages_are_made_of_their_json():
    folder = ROOT / "docs/results/speed"
    found = {name: report.read(folder / f"{name}.json") for name in report.DEVICES}
    for name, text in report.pages(found).items():
        assert (folder / name).read_text(encoding="utf-8") == text, name


@pytest.mark.parametrize("build", [layers.summary_mixing, layers.conformer, steps.step])
def test_a_tiny_run_becomes_a_table(build, tmp_path):
    result = benchmark.measure(build, "tiny", seconds=0)
    page, found = written(tmp_path, build.__name__, result)
    assert found == result | {"run": RUN}  # JSON keeps it
    table = page[page.index("| benchmark |") :].split("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    for comparison, (what, *_) in zip(result["comparisons"], rows, strict=True):
        assert what == f"{result['label']}: {comparison['sub_label']}"


def test_parts_are_shares_of_the_step(tmp_path):
    result = benchmark.measure(steps.parts, "tiny", seconds=0)
    page, _ = written(tmp_path, "parts", result)
    lines = page[page.index("## Parts") : page.index("## Cond")].splitlines()
    names = [line.split(" | ")[0].strip("| ") for line in lines if re.search(r"%", line)]
    assert names == [*list(result["seconds"])[1:], steps.WHOLE]


def test_a_second_run_keeps_the_other_benchmarks(tmp_path, capsys):
    for names in (["matmul", "summary_mixing"], ["matmul", "matmul"]):
        assert command.main([*names, "--size", "tiny", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "cpu.json").read_text(encoding="utf-8"))
    commands = {name: result["run"]["command"] for name, result in found.items()}
    assert list(commands) == ["matmul", "summary_mixing"]
    assert commands["matmul"].startswith("python -m perf matmul matmul --size tiny")
    assert commands["summary_mixing"].startswith("python -m perf matmul summary_mixing --size")
    assert found["matmul"]["run"]["machine"]["torch"] == torch.__version__
    assert "# Speed and memory on a CPU" in capsys.readouterr().out


def test_only_a_full_run_is_written_unless_out_is_given(tmp_path, monkeypatch):
    result = benchmark.measure(layers.matmul, "tiny", seconds=0)
    monkeypatch.setattr(benchmark, "measure", lambda *_, **__: dict(result))
    monkeypatch.setattr(command, "OUT", str(tmp_path))
    for size in ("quick", "full"):
        assert command.main(["matmul", "--size", size]) == 0
        assert (tmp_path / "cpu.md").exists() == (size == "full")


def test_an_unknown_name_is_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["quantiser"])
    assert "unknown benchmark quantiser: choose from matmul, quant" in capsys.readouterr().err


def test_a_mismatch_is_an_error_and_the_rest_is_written(tmp_path, monkeypatch, capsys):
    def disagree(*_, **__):
        raise Mismatch("3 of 4 tokens differ")

    monkeypatch.setattr(layers, "quantizer", disagree)
    options = ["--size", "tiny", "--out", str(tmp_path)]
    assert command.main(["quantizer", *options]) == 1
    assert not list(tmp_path.iterdir())
    assert command.main(["quantizer", "matmul", *options]) == 1
    message = "3 of 4 tokens differ; no result of quantizer is written"
    assert message in capsys.readouterr().err
    assert list(json.loads((tmp_path / "cpu.json").read_text())) == ["matmul"]
