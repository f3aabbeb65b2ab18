"""The demo, small: from nothing to a report."""

import re

import numpy as np
import pytest
import tiny

from recipes.demo import demo

pytestmark = pytest.mark.slow


def test_demo_reports(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = {"music": "my music", "out": "out", "hours": 0.05, "epochs": 2, "clips": 120}
    options |= {k: v for k, v in tiny.SIZE.items() if k != "number_of_epochs"}
    demo.main([str(part) for key, value in options.items() for part in (f"--{key}", value)])
    text = (tmp_path / "out" / "report.md").read_text()
    assert text in capsys.readouterr().out
    for task in ("genre", "tempo class", "instrument"):
        row = re.search(rf"^\| {task} \| 48 \|(.*)$", text, re.MULTILINE).group(1)
        values = [float(value) for value in re.findall(r"\d\.\d+", row)]
        assert len(values) == 10 and all(0 <= value <= 1 for value in values)
    assert (tmp_path / "out" / re.search(r"!\[curves\]\((.*)\)", text).group(1)).exists()
    assert text.count("pre-trained against") == 6 and "no figure says anything" in text


def test_probe_finds_what_is_there_and_nothing_else():
    rng = np.random.default_rng(0)
    labels = {split: rng.integers(0, 4, 200) for split in demo.SPLITS}
    noise = {split: rng.standard_normal((200, 3, 16)) for split in demo.SPLITS}
    signal = {split: values.copy() for split, values in noise.items()}
    for split, values in signal.items():
        values[np.arange(200), 1, labels[split]] += 4.0
    found = demo.probe(signal, labels)
    assert found.layer == 1 and found.right.mean() > 0.9
    mean, low, high = demo.interval(demo.probe(noise, labels).right)
    assert low < 0.25 + 0.05 and high > 0.25 - 0.05 and low < mean < high
