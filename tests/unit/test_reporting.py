"""Logs, curves and corpora of a training run; pages."""

import pytest
from jinja2 import UndefinedError

from speechbrain_music.metrics.pretraining import HELD_OUT
from speechbrain_music.reporting.corpora import describe_corpora
from speechbrain_music.reporting.curves import PANELS, draw_curves
from speechbrain_music.reporting.pages import by_encoder, render
from speechbrain_music.reporting.run_log import METRICS, RunLog, format_held_out, read_rows

KEYS = [name for _, key, baselines in HELD_OUT for name in (key, *baselines)]
FIGURES = dict.fromkeys(KEYS, 0.5) | {"accuracy_at_0": 0.25, "codes_used": 9, "perplexity": 4.0}


@pytest.mark.parametrize("cut", [b'{"kind": "tr', b"[", b"3", b'{"kind": "train"}', b"\xff"])
def test_a_resumed_log_drops_later_steps_and_a_damaged_line(cut, tmp_path):
    log = RunLog(tmp_path, step=0)
    log.write("train", 10, loss=2.5)
    with open(tmp_path / METRICS, "ab") as file:
        file.write(cut + b"\n")
    log.write("train", 20, loss=2.0)
    assert [row["step"] for row in read_rows(tmp_path, "train")] == [10, 20]
    RunLog(tmp_path, step=15)
    assert read_rows(tmp_path, "train") == [{"kind": "train", "step": 10, "loss": 2.5}]


@pytest.mark.pictures
def test_curves_have_a_panel_per_held_out_figure(tmp_path):
    log = RunLog(tmp_path, step=0)
    log.write("valid", 10, **FIGURES)
    draw_curves(tmp_path, "one row")
    assert (tmp_path / "curves.png").stat().st_size > 5000
    drawn = {key for lines in PANELS.values() for _, key, _ in lines}
    assert drawn >= set(KEYS) and len(PANELS) == 6


def test_held_out_figures_as_text():
    text = format_held_out(FIGURES)
    assert "mel MSE" in text and "nearest visible token 0.5000" in text
    assert "by position in the block   0.250" in text and "codes used 9, perplexity 4" in text
    shares = {"block_share_1": 1.2, "block_share_2": 5.1}
    text = format_held_out(FIGURES | shares)
    assert "its input   1.20 5.10\n  block 2 outweighs its input: a lower --lr" in text
    assert "outweighs" not in format_held_out(FIGURES | shares | {"block_share_2": 4.9})


def test_hours_of_corpora(tmp_path):
    for name, seconds in (("train.csv", 7200), ("valid.csv", 1800)):
        text = f"ID,duration,wav\na,{seconds},$data_root/a.wav\n"
        (tmp_path / name).write_text(text)
    found = describe_corpora(tmp_path / "train.csv", tmp_path / "valid.csv", "/data/my_music")
    assert found["hours"] == {"train": 2.0, "valid": 0.5}
    assert found["corpora"] == [{"name": "my_music", "hours": 2.0, "composed": None}]
    assert describe_corpora(tmp_path / "gone.csv", tmp_path / "valid.csv", "/data") == {}


def test_rendering(tmp_path):
    text = "{{ a }}\n{% if a %}\n\n\n\nb\n{% endif %}\n"
    for name, shown in {"page.md": "<b>", "page.html": "&lt;b&gt;"}.items():
        (tmp_path / name).write_text(text)
        assert render(tmp_path / name, a="<b>") == f"{shown}\n\nb\n"
        with pytest.raises(UndefinedError, match="'a' is undefined"):
            render(tmp_path / name)


def test_figures_by_encoder(tmp_path):
    row = {"task": "key", "metric": "accuracy", "chance": 0.1, "mean": 0.5, "low": 0.4, "high": 0.6}
    rows = [row | {"encoder": "mel"}, row | {"encoder": "mine", "metric": "weighted_score"}]
    figures = by_encoder(rows, "task", "metric")
    assert list(figures) == [("key", "accuracy", "0.100"), ("key", "weighted_score", "0.100")]
    (tmp_path / "cells.md").write_text(
        '{% from "tables.md" import cell, of_encoders %}\n'
        '{% for found in figures %}|{{ of_encoders(found, ["mel", "mine"]) }}\n{% endfor %}\n'
        '|{{ cell("") }}{{ cell(0.5) }}'
    )
    assert render(tmp_path / "cells.md", figures=figures.values()).splitlines() == [
        "| 0.500 (0.400 to 0.600) | missing |",
        "| missing | 0.500 (0.400 to 0.600) |",
        "| | 0.5 |",
    ]
