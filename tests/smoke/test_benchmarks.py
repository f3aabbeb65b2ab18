"""The benchmarks run, write their files, and notice a contender that does other work."""

import doctest
import json
import os
import signal
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import (
    ROWS,
    cells,
    cluster,
    contest,
    data,
    growth,
    growth_report,
    pages,
    parts,
    registry,
    report,
    rows,
    step,
)
from benchmarks import __main__ as runner
from benchmarks.training import load
from speechbrain_music.models.frontend import TOKEN_RATE

HERE = Path(runner.__file__).parent
GIB = 2**30


def lines_of(text):
    """Cells of a page's first table, below its head."""
    table = text[text.index("| what |") :].split("\n\n")[0].splitlines()
    return [line.split(" | ") for line in table[2:]]


@pytest.mark.parametrize("name", sorted(path.stem for path in HERE.glob("[!_]*.py")))
def test_examples_show_what_is_so(name, tmp_path):
    module = import_module(f"benchmarks.{name}")
    fixtures = {"getfixture": {"tmp_path": tmp_path}.get}
    assert doctest.testmod(module, extraglobs=fixtures).failed == 0


def test_every_row_has_a_measure():
    assert tuple(registry.MEASURES) == ROWS


@pytest.mark.parametrize("build", [rows.machine, rows.summary_mixing, rows.conformer, step.step])
def test_a_tiny_row_is_measured_and_written(build, tmp_path):
    row = contest.measure(build, "tiny", seconds=0)
    report.write(tmp_path, {build.__name__: row}, report.machine("cpu"), "python -m benchmarks")

    raw = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert raw["rows"][build.__name__] == row
    assert raw["machine"]["torch"]
    found = lines_of((tmp_path / "RESULTS.md").read_text(encoding="utf-8"))
    assert len(found) == max(len(row["claims"]), 1)
    for claim, (what, *_, verdict) in zip(row["claims"], found, strict=False):
        assert claim["what"] in what
        assert claim["ratio"]["lower"] <= claim["ratio"]["median"] <= claim["ratio"]["upper"]
        assert verdict.startswith({True: "met", False: "short by", None: ""}[claim["met"]])


def spoil(build, victim, call):
    """The contest with one contender replaced by what `call` makes of it."""

    def spoiled(size, device):
        right = build(size, device)
        wrong = call(right.contenders[victim])
        return replace(right, contenders={**right.contenders, victim: wrong})

    return spoiled


def off_by_one(honest):
    def wrong():
        result = honest()
        if isinstance(result, list):  # the output, then gradients: the last one is off
            return [*result[:-1], result[-1] + 1]
        return result + 1

    return wrong


@pytest.mark.parametrize(
    ("build", "victim"),
    [
        (rows.quantizer, "ours"),
        (rows.summary_mixing, "ours"),
        (rows.branchformer, "attention"),
        (rows.conformer, "attention"),
        (step.step, "brn_sum"),
    ],
)
def test_a_wrong_contender_is_noticed(build, victim):
    right = build("tiny")
    right.check(right.contenders)
    with pytest.raises(contest.Disagreement):
        contest.measure(spoil(build, victim, off_by_one), "tiny", seconds=0)


def test_products_that_are_missing_are_noticed():
    right = rows.summary_mixing("tiny")
    fewer = rows.matrix_products([(1, 2, 512, 512)], "cpu")
    with pytest.raises(contest.Disagreement, match="FLOP"):
        right.check({**right.contenders, "products": fewer})


def test_a_step_that_trains_nothing_is_noticed():
    masked = torch.tensor(10.0)
    idle = spoil(step.step, "brn_att", lambda honest: lambda: [torch.tensor(4.0), 1.0, masked])
    with pytest.raises(contest.Disagreement, match="brn_att: .* are not trained"):
        contest.measure(idle, "tiny", seconds=0)


def test_a_part_that_is_missing_is_noticed():
    absent = spoil(parts.parts, "mixing", lambda honest: lambda: None)
    with pytest.raises(contest.Disagreement, match="its parts"):
        contest.measure(absent, "tiny", seconds=0)


def test_parts_leave_no_gradient_to_the_step():
    contenders = parts.parts("tiny").contenders
    step_of = contenders[parts.WHOLE].func
    for name in contenders:
        contenders[name]()
        assert all(parameter.grad is None for parameter in step_of.parameters), name


def test_parts_are_shares_of_the_step(tmp_path):
    row = contest.measure(parts.parts, "tiny", seconds=0)
    report.write(tmp_path, {"parts": row}, report.machine("cpu"), "python -m benchmarks parts")
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert not lines_of(text)  # all of it stands in its own section
    lines = [line for line in text[text.index("## Parts") :].splitlines() if "%" in line]
    names = [line.split(" | ")[0].strip("| ") for line in lines]
    assert names == [*list(row["seconds"])[1:], parts.WHOLE]
    for claim in row["claims"]:
        share = claim["ratio"]
        assert share["lower"] <= share["median"] <= share["upper"]
        assert claim["theirs"] == parts.WHOLE and claim["met"] is None


def test_sums_are_taken_within_a_round(monkeypatch):
    times = {"whole": [10.0, 20.0, 10.0], "a": [1.0, 2.0, 4.0], "b": [4.0, 8.0, 1.0]}
    monkeypatch.setattr(contest, "side_by_side", lambda *_: dict(times))
    claim = contest.Claim("x", "both", "whole", bound=contest.AT_MOST)
    made = contest.Contest(dict.fromkeys(times, None), [claim], sums={"both": ["a", "b"]})
    row = contest.measure(lambda *_: made)
    assert row["claims"][0]["ratio"] == {"median": 0.5, "lower": 0.5, "upper": 0.5}


def test_extra_memory_of_a_call_is_seen():
    # SpeechBrain's holds all differences, (1, 8192, 250, 16) floats: 125 MiB.
    assert contest.extra_memory(rows.quantizer, "SpeechBrain's", "quick") > 100 * 2**20


# ---- claims with an upper bound ----


@pytest.mark.parametrize(
    ("bound", "reach", "met", "verdict"),
    [
        (contest.AT_LEAST, 0.5, True, "met"),
        (contest.AT_LEAST, 1.0, False, "short by 50%"),
        (contest.AT_MOST, 2.0, True, "met"),
        (contest.AT_MOST, 1.6, False, "over by 25%"),
        (contest.AT_MOST, None, None, ""),
    ],
)
def test_a_verdict(bound, reach, met, verdict):
    times = {"a": [2.0, 4.0, 2.0], "b": [1.0, 2.0, 1.0]}
    settled = contest.settle(contest.Claim("x", "a", "b", reach, bound=bound), times)
    assert settled["ratio"]["median"] == (0.5 if bound == contest.AT_LEAST else 2.0)
    assert settled["met"] is met
    assert report._verdict(settled).endswith(verdict)


def test_what_was_not_measured_is_not_met(tmp_path):
    claim = contest.Claim("x", "a", "b", 2, bound=contest.AT_MOST)
    settled = contest.settle(claim, {"a": [1.0]})
    row = {"seconds": {"a": {"median": 1.0}}, "gflops": {}, "extra_bytes": {}, "shares": {}}
    text = report.table({"machine": row | {"claims": [settled]}}, {}, "python -m benchmarks")
    assert settled["ratio"] is None and settled["met"] is False
    assert lines_of(text)[0][2:] == ["b: not measured", "not measured", "<= 2", "not met |"]


# ---- growth ----


@pytest.fixture(scope="module")
def grown():
    return growth.measure("tiny")


def test_growth_is_measured_cell_by_cell(grown):
    plan = growth.PLANS["tiny"]
    encoders = len(plan.seconds) * len(growth.MIXINGS) * len(growth.WORKS)
    assert len(grown["cells"]) == encoders + len(plan.step_seconds)
    for cell in grown["cells"]:
        assert cell["outcome"] == cells.MEASURED
        assert cell["call_seconds"]["median"] > 0 and cell["extra_bytes"] >= 0
    assert [claim["met"] in (True, False) for claim in grown["claims"]] == [True] * 4
    long = next(cell for cell in grown["cells"] if cell["seconds"] == 2)
    name = str(cells.Cell(long["what"], long["work"], 2))
    assert grown["extra_bytes"][name] == long["extra_bytes"] / 2


def test_growth_is_written_and_drawn_from_its_json(grown, tmp_path):
    report.write(tmp_path, {"growth": grown}, report.machine("cpu"), "python -m benchmarks growth")
    written = json.loads((tmp_path / "growth.json").read_text(encoding="utf-8"))
    assert written["cells"] == grown["cells"] and written["machine"]
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "](growth.png)" in text and growth_report.tables(written) in text
    assert len(lines_of(text)) == 4
    growth_report.draw(written, tmp_path / "again.png")
    picture = (tmp_path / "growth.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and picture == (tmp_path / "again.png").read_bytes()


def test_a_cell_that_is_not_measured_is_told(grown, tmp_path):
    plan = growth.PLANS["tiny"]._replace(seconds=(1,), step_seconds=())
    plan = plan._replace(limits=cells.Limits(bytes=2**20, seconds=30))
    row = growth.measure(plan=plan)
    assert {cell["outcome"] for cell in row["cells"]} == {cells.NO_ROOM}
    assert not any(claim["met"] for claim in row["claims"])
    report.write(tmp_path, {"growth": row}, report.machine("cpu"), "python -m benchmarks growth")
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "| attention, forward | does not fit |" in text and "not measured | <= 1.1" in text


def hold(size):
    """Takes memory, touches it, and sleeps."""
    held = np.ones(size, np.uint8)
    time.sleep(60)
    return held.size


def overflow():
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate much")


def fault():
    raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("work", "limits", "arguments", "outcome"),
    [
        (hold, cells.Limits(3 * GIB // 2, 60), (2 * GIB,), cells.NO_ROOM),
        (hold, cells.Limits(64 * GIB, 0.5), (1,), cells.TOO_LONG),
        (overflow, cells.Limits(64 * GIB, 60), (), cells.NO_ROOM),
        (killed, cells.Limits(64 * GIB, 60), (), cells.NO_ROOM),
    ],
)
def test_a_process_is_ended_where_it_takes_too_much(work, limits, arguments, outcome):
    assert cells.supervise(work, limits, *arguments) == (outcome, None)


def test_a_faulty_process_is_an_error():
    with pytest.raises(RuntimeError, match="exit code 1"):
        cells.supervise(fault, cells.Limits(64 * GIB, 60))


def test_attention_needs_more_memory_a_second_than_summary():
    need = {}
    for mixing in ("summary", "attention"):
        cell = cells.Cell(mixing, cells.TRAINING, 24)
        options = {"num_layers": 1, "d_model": 16, "ffn_units": 32, "frontend_channels": 2}
        _, (_, need[mixing]) = cells.supervise(
            cells.run_cell, cells.Limits(64 * GIB, 300), cell, options
        )
    tokens = 24 * TOKEN_RATE
    assert need["attention"] - need["summary"] > 4 * tokens**2 * 4  # a matrix for each of 4 heads


# ---- data ----


def test_the_data_path_is_measured(tmp_path):
    row = data.measure("tiny", seconds=0)
    assert row["note"] and len(row["claims"]) == 2 * len(data.FORMATS) + len(data.RUNS["tiny"])
    for claim in row["claims"]:
        assert claim["ratio"]["median"] > 0
        assert (claim["met"] is None) == (claim["reach"] is None)
    for claim in row["claims"][2 * len(data.FORMATS) :]:
        assert claim["ratio"]["upper"] < 1  # waiting is a part of all
    report.write(tmp_path, {"data": row}, report.machine("cpu"), "python -m benchmarks data")
    assert len(lines_of((tmp_path / "RESULTS.md").read_text())) == len(row["claims"])


@pytest.mark.parametrize(
    ("call", "fault"),
    [(lambda honest: lambda: honest()[:-1], "flac: 23999 samples"), (off_by_one, "flac: is 1.0e")],
)
def test_a_part_that_is_not_the_files_is_noticed(call, fault, tmp_path):
    data.write_files(tmp_path, seconds=4)

    def build(size, device):
        return data.reading(size, device, folder=tmp_path)

    with pytest.raises(contest.Disagreement, match=fault):
        contest.measure(spoil(build, "flac", call), "tiny", seconds=0)


# ---- on paper ----


def test_paper_is_the_yaml_and_the_grid():
    hparams = load(cluster.SYSTEM)
    assert cluster.STEP_SEGMENTS == hparams["effective_batch"]
    assert cluster.SEGMENT_SECONDS == hparams["segment_seconds"]
    assert cluster.STEPS == hparams["max_steps"]
    assert cluster.TOKEN_RATE == TOKEN_RATE
    assert cluster.count_parameters() == 49_771_872


def test_arithmetic_on_paper():
    assumed = cluster.Assumptions(tokens_per_second=96_000, inside_gb=100, between_gb=10)
    inside, between = (cluster.simulate(gpus, 50_000_000, assumed) for gpus in (8, 16))
    assert inside.sent_bytes == 2 * 7 / 8 * 200e6
    assert inside.exchange_seconds == pytest.approx(3.5e-3)
    assert inside.step_seconds == pytest.approx(1 + 3.5e-3)  # 768,000 tokens on 8 x 96,000 a second
    assert inside.audio_rate == pytest.approx(30720 / inside.step_seconds)
    assert inside.run_hours == pytest.approx(100_350 / 3600)
    assert between.exchange_seconds == pytest.approx(2 * 15 / 16 * 200e6 / 10e9)
    hours = (109_269 + 106_574) / 120
    assert inside.pass_hours == pytest.approx(hours / inside.audio_rate)
    assert inside.cores == pytest.approx(inside.audio_rate / 30 * 0.1)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ("--gpus 7", "gpus is 7: take a divisor of the 1024 segments of a step"),
        ("--tokens_per_second 0", "tokens_per_second is 0.0: it must be above 0"),
    ],
)
def test_paper_refuses(options, fault, capsys):
    with pytest.raises(SystemExit):
        cluster.main(options.split())
    assert fault in capsys.readouterr().err


def test_the_page_says_what_the_commands_say(capsys):
    page = pages.PAGE.read_text(encoding="utf-8")
    assert pages.fill(page, pages.blocks()) == page, "run python -m benchmarks.pages"
    cluster.main([])
    assert capsys.readouterr().out in page


# ---- the command ----


def test_a_row_takes_its_place_among_those_before(tmp_path, capsys):
    for names in (["machine", "summary_mixing"], ["machine"]):
        assert runner.main([*names, "--size", "tiny", "--out", str(tmp_path)]) == 0
    raw = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert list(raw["rows"]) == ["machine", "summary_mixing"]
    assert raw["command"].startswith("python -m benchmarks machine summary_mixing")
    assert raw["rows"]["machine"]["made"]["command"].startswith("python -m benchmarks machine --")
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert text in capsys.readouterr().out + text
    assert "- machine: was made apart by `python -m benchmarks machine --size tiny" in text


def test_a_full_row_goes_where_the_page_is(tmp_path, monkeypatch):
    row = contest.measure(rows.machine, "tiny", seconds=0)
    refreshed = []
    monkeypatch.setitem(registry.MEASURES, "machine", lambda *_, **__: row)
    monkeypatch.setattr(pages, "refresh", lambda: refreshed.append(True))
    monkeypatch.setattr(runner, "OUT", str(tmp_path))
    for size, written in (("quick", False), ("full", True)):
        assert runner.main(["machine", "--size", size]) == 0
        assert (tmp_path / "RESULTS.md").exists() == written == bool(refreshed)


def test_an_unknown_row_is_named_with_those_there_are(capsys):
    with pytest.raises(SystemExit):
        runner.main(["quantiser"])
    assert "quantiser: choose from machine, quantizer" in capsys.readouterr().err


def test_a_disagreement_writes_nothing(tmp_path, monkeypatch, capsys):
    def disagree(*_, **__):
        raise contest.Disagreement("3 of 4 tokens differ")

    monkeypatch.setitem(registry.MEASURES, "machine", disagree)
    assert runner.main(["machine", "--size", "tiny", "--out", str(tmp_path)]) == 1
    assert "3 of 4 tokens differ" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

    rows = ["machine", "quantizer"]
    assert runner.main([*rows, "--size", "tiny", "--out", str(tmp_path)]) == 1
    assert "of machine nothing is written" in capsys.readouterr().err
    written = json.loads((tmp_path / "results.json").read_text())
    assert list(written["rows"]) == ["quantizer"]  # what agrees is not lost
    assert runner.main(["quantizer", "quantizer", "--size", "tiny"]) == 0  # named twice, not failed
