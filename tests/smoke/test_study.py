"""The study at the smallest size, and the seeds that it trains."""

import json
from types import SimpleNamespace

import pytest
import tiny

from experiments import study
from speechbrain_music.utils.processes import FINISHED


def test_only_unfinished_seeds_and_other_options_are_trained(tmp_path, monkeypatch):
    """A machine that only evaluates composes and trains nothing."""
    trained = []

    def pretend(commands, folders, **metadata):
        for command, folder in zip(commands, folders, strict=True):
            trained.append(command[command.index("--seed") + 1])
            folder.mkdir(exist_ok=True)
            (folder / FINISHED).write_text(json.dumps({"peak_mib": 1} | metadata))

    monkeypatch.setattr(study, "prepare_mixture", lambda hours, manifests: {})
    monkeypatch.setattr(study, "run_recipes", pretend)
    args = SimpleNamespace(hours=6.0, epochs=9, work=tmp_path)
    for seeds, options in (([1], []), ([1, 2], []), ([1], ["--lr", "0.1"])):
        for _ in range(2):  # the second time all has finished
            study.pretrain(args, {seed: tmp_path / str(seed) for seed in seeds}, options)
    assert trained == [1, 2, 1]


@pytest.mark.slow
def test_study(tmp_path, monkeypatch, real_audio):
    monkeypatch.chdir(tmp_path)
    sizes = {k: v for k, v in tiny.SIZE.items() if k != "number_of_epochs"}
    argv = ["--hours", "0.03", "--epochs", "1", "--tasks", "nsynth_instrument"]
    argv += ["--evaluate", "--replica_scale 0.0001 --quick True --hidden 8 --number_of_epochs 2"]
    argv += ["--protocols", "mean", "whitened", "--music", str(real_audio)]
    argv += [str(part) for key, value in sizes.items() for part in (f"--{key}", value)]
    study.main(argv)
    found = {path.name for path in (tmp_path / "results/study").iterdir()}
    assert {"study.md", "mean.md", "whitened.png", "retrieval.md", "curves-1.png"} <= found
    stored = json.loads((tmp_path / "results/study/whitened.json").read_text())
    assert {row["encoder"] for row in stored["rows"]} == {"mel", "random", "pre-trained"}
    page = (tmp_path / "results/study/study.md").read_text()
    assert "| cross-entropy (nats) |" in page and "--epochs 1" in page
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("results.json")}
    study.main(argv)  # finished work is reused
    assert before and before == {path: path.stat().st_mtime_ns for path in before}
