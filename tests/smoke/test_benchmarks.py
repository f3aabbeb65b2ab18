"""The benchmarks run, write both files, and notice a contender that does other work."""

import json
from dataclasses import replace

import pytest

from benchmarks import __main__ as runner
from benchmarks import contest, report, rows


@pytest.mark.parametrize("build", [rows.machine, rows.summary_mixing, rows.conformer])
def test_a_tiny_row_is_measured_and_written(build, tmp_path):
    row = contest.measure(build, "tiny", seconds=0)
    report.write(tmp_path, {build.__name__: row}, report.machine("cpu"), "python -m benchmarks")

    raw = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert raw["rows"][build.__name__] == row
    assert raw["machine"]["torch"]
    lines = (tmp_path / "RESULTS.md").read_text(encoding="utf-8").splitlines()
    cells = [line.split(" | ") for line in lines if line.startswith("| ")]
    assert len(cells) == 1 + max(len(row["claims"]), 1)
    for claim, (what, *_, verdict) in zip(row["claims"], cells[1:], strict=False):
        assert claim["what"] in what
        assert claim["ratio"]["lower"] <= claim["ratio"]["median"] <= claim["ratio"]["upper"]
        assert verdict.startswith({True: "met", False: "short by", None: ""}[claim["met"]])


@pytest.mark.parametrize(
    ("build", "victim"),
    [
        (rows.quantizer, "ours"),
        (rows.summary_mixing, "ours"),
        (rows.branchformer, "attention"),
        (rows.conformer, "attention"),
    ],
)
def test_a_wrong_contender_is_noticed(build, victim):
    def spoiled(size, device):
        right = build(size, device)
        honest = right.contenders[victim]

        def wrong():
            result = honest()
            if isinstance(result, list):  # the output, then gradients: the last one is off
                return [*result[:-1], result[-1] + 1]
            return result + 1

        return replace(right, contenders={**right.contenders, victim: wrong})

    right = build("tiny")
    right.check(right.contenders)
    with pytest.raises(contest.Disagreement):
        contest.measure(spoiled, "tiny", seconds=0)


def test_products_that_are_missing_are_noticed():
    right = rows.summary_mixing("tiny")
    fewer = rows.matrix_products([(1, 2, 512, 512)], "cpu")
    with pytest.raises(contest.Disagreement, match="FLOP"):
        right.check({**right.contenders, "products": fewer})


def test_extra_memory_of_a_call_is_seen():
    # SpeechBrain's holds all differences, (1, 8192, 250, 16) floats: 125 MiB.
    assert contest.extra_memory(rows.quantizer, "SpeechBrain's", "quick") > 100 * 2**20


def test_an_unknown_row_is_named_with_those_there_are(capsys):
    with pytest.raises(SystemExit):
        runner.main(["quantiser"])
    assert "quantiser: choose from machine, quantizer" in capsys.readouterr().err


def test_a_disagreement_writes_nothing(tmp_path, monkeypatch, capsys):
    def disagree(*_):
        raise contest.Disagreement("3 of 4 tokens differ")

    monkeypatch.setattr(contest, "measure", disagree)
    assert runner.main(["machine", "--quick", "--out", str(tmp_path)]) == 1
    assert "3 of 4 tokens differ" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
