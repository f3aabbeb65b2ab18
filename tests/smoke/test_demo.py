"""The demo at a small size."""

import json
import re

import pytest
import tiny

from experiments import demo

pytestmark = pytest.mark.slow


def test_demo_reports_and_reuses_finished_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = "--replica_scale 0.0001 --quick True --hidden 8 --number_of_epochs 2 --resamples 40"
    options = {"music": "my music", "out": "out", "hours": 0.05, "epochs": 2, "evaluate": small}
    options |= {k: v for k, v in tiny.SIZE.items() if k != "number_of_epochs"}
    argv = [str(part) for key, value in options.items() for part in (f"--{key}", value)]
    argv += ["--tasks", "nsynth_instrument"]
    demo.main(argv)
    text = (tmp_path / "out" / "report.md").read_text()
    printed = capsys.readouterr().out
    assert text in printed and printed.rstrip().endswith(demo.NEXT)
    row = re.search(r"^\| nsynth_instrument \| accuracy \|(.*)$", text, re.MULTILINE).group(1)
    values = [float(value) for value in re.findall(r"\d\.\d+", row)]
    assert len(values) == 10 and all(0 <= value <= 1 for value in values)
    for picture in ("curves", "scores"):
        (path,) = re.findall(rf"!\[{picture}\]\((.*)\)", text)
        assert (tmp_path / "out" / path).exists()
    first = json.loads((tmp_path / "out/seconds.json").read_text())
    for other in ("untrained", "mel"):
        assert f"### pre-trained - {other}" in text
    kept = {
        path: path.stat().st_mtime_ns
        for name in ("results.json", "corpus.json", "model.safetensors")
        for path in tmp_path.rglob(name)
    }
    demo.main(argv)
    both = json.loads((tmp_path / "out/seconds.json").read_text())
    assert len(both) == 3 and all(both[name] > first[name] for name in first)
    assert len(kept) == 5 and kept == {path: path.stat().st_mtime_ns for path in kept}
