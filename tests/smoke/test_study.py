"""The study, whole, at the smallest size; and when it trains again."""

import json
from types import SimpleNamespace

import pytest
import tiny

from recipes.study import study
from recipes.study.study import main


def test_what_was_pretrained_elsewhere_is_taken_as_it_was_asked_for(tmp_path, monkeypatch):
    """A machine that only judges composes nothing; a seed or an option more is trained."""
    trained = []

    def pretend(commands, ended):
        for place, command in enumerate(commands):
            trained.append(command[command.index("--seed") + 1])
            ended(place, 1)

    monkeypatch.setattr(study, "compose", lambda hours, manifests: [])
    monkeypatch.setattr(study, "side_by_side", pretend)
    folders = {seed: tmp_path / str(seed) for seed in (1, 2)}
    for folder in folders.values():
        folder.mkdir()
    args = SimpleNamespace(hours=6.0, epochs=9, work=tmp_path)
    for seeds, options in (([1], []), ([1, 2], []), ([1], ["--lr", "0.1"])):
        for _ in range(2):  # the second time all is there
            study.pretrain(args, {seed: folders[seed] for seed in seeds}, options)
    assert trained == [1, 2, 1]


@pytest.mark.slow
def test_study(tmp_path, monkeypatch, real_audio):
    monkeypatch.chdir(tmp_path)
    sizes = {k: v for k, v in tiny.SIZE.items() if k != "number_of_epochs"}
    argv = ["--hours", "0.03", "--epochs", "1", "--tasks", "nsynth_instrument"]
    argv += ["--judge", "--replica_scale 0.0001 --quick True --hidden 8 --number_of_epochs 2"]
    argv += ["--protocols", "mean", "whitened", "--music", str(real_audio)]
    argv += [str(part) for key, value in sizes.items() for part in (f"--{key}", value)]
    main(argv)
    found = {path.name for path in (tmp_path / "results/study").iterdir()}
    assert {"study.md", "mean.md", "whitened.png", "retrieval.md", "curves-1.png"} <= found
    stored = json.loads((tmp_path / "results/study/whitened.json").read_text())
    assert {row["encoder"] for row in stored["rows"]} == {"mel", "random", "pre-trained"}
    page = (tmp_path / "results/study/study.md").read_text()
    assert "| cross-entropy (nats) |" in page and "--epochs 1" in page
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("results.json")}
    main(argv)  # what is done is not done again
    assert before and before == {path: path.stat().st_mtime_ns for path in before}
