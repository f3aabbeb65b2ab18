"""The comparison of compressed forms: its figures, table and picture; what is reused."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from experiments import compression
from experiments.compression import linear_cka, main
from speechbrain_music.data_prep.replica import storage
from speechbrain_music.models.safe_folder import WEIGHTS
from speechbrain_music.utils.errors import UserError

SMALL = "--replica_scale 0.0001 --quick True --hidden 8 --number_of_epochs 2 --resamples 40"
FORMS = ["original", "bf16", "int8", "layers:1", "prune:0.5", "copy", "random", "mel"]


def test_cka_by_hand():
    """1 for a rotated, scaled and moved copy, 0 without correlation, between them by share."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(np.linalg.qr(rng.standard_normal((50, 6)))[0])
    x = torch.linalg.qr(x - x.mean(0))[0]  # centred, orthonormal columns
    turn = torch.linalg.qr(torch.from_numpy(rng.standard_normal((6, 6))))[0]
    assert linear_cka(x, 3 * x @ turn + 7) == pytest.approx(1)
    assert linear_cka(x[:, :3], x[:, 3:]) == pytest.approx(0, abs=1e-12)
    assert linear_cka(x[:, :4], x[:, 2:]) == pytest.approx(0.5)  # two of four directions


@pytest.mark.pictures
def test_every_form_is_measured_and_evaluated(tmp_path, monkeypatch, replica, tiny_export, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compression, "SECONDS", 2)
    monkeypatch.setattr(storage, "render_all", lambda work, jobs, _: [work(*job) for job in jobs])
    shutil.copytree(tiny_export, tmp_path / "copy")
    argv = [str(tiny_export), "--methods", "bf16", "int8", "layers:1", "prune:0.5", "--encoders"]
    argv += [f"copy={tmp_path / 'copy'}", "--tasks", "nsynth_instrument", "nsynth_pitch", "--data"]
    argv += [f"nsynth={replica('nsynth')}", "--out", "out", *SMALL.split(), "--noprogressbar"]
    main(argv)
    stored = json.loads((tmp_path / "out/compression.json").read_text())
    rows = stored["encoders"]
    assert list(rows) == FORMS

    original = rows["original"]
    assert original["bytes"] == (tiny_export / WEIGHTS).stat().st_size == rows["random"]["bytes"]
    assert rows["mel"]["bytes"] is None and rows["mel"]["parameters"] == 0
    for name in ("int8", "layers:1", "prune:0.5"):
        assert rows[name]["bytes"] < original["bytes"]
    # int8 does the same products in another type.
    for name in ("bf16", "int8", "copy", "random"):
        assert rows[name]["macs"] == original["macs"] > rows["prune:0.5"]["macs"]
    assert original["macs"] > rows["layers:1"]["macs"] > rows["mel"]["macs"] > 0
    for row in rows.values():
        assert row["memory"] > 0 and row["latency"].keys() == {"1"}
        assert 0 < row["latency"]["1"]["50%"] <= row["latency"]["1"]["95%"]

    assert original["cka"] == pytest.approx([1, 1, 1]) == rows["copy"]["cka"]
    assert len(rows["layers:1"]["cka"]) == 2 and len(rows["mel"]["cka"]) == 1
    assert rows["int8"]["cka"][2] > 0.99 > rows["prune:0.5"]["cka"][2]
    assert rows["prune:0.5"]["cka"][0] == pytest.approx(1)  # the front-end is not pruned

    marble = json.loads((tmp_path / "out/marble.json").read_text())
    assert "loss" not in original
    for name in FORMS[1:]:
        loss = rows[name]["loss"]
        difference = original["score"]["mean"] - rows[name]["score"]["mean"]
        assert loss["difference"] == pytest.approx(difference)
        (pair,) = [p for p in marble["pairs"] if (p["first"], p["second"]) == ("original", name)]
        assert loss["tasks"] == pair["tasks"] and loss["p"] >= pair["all tasks"]["p"]
    assert rows["copy"]["loss"]["difference"] == 0

    page = (tmp_path / "out/compression.md").read_text()
    assert page == capsys.readouterr().out[-len(page) - 1 : -1] and "None" not in page
    for name in FORMS:
        assert page.count(f"| `{name}` |") == (3 if name == "original" else 4)
    assert f"| `original` | {original['parameters']:,} | {original['bytes']:,} |" in page
    with Image.open(tmp_path / "out/pareto.png") as image:
        assert image.size[0] > 1000

    monkeypatch.setattr(compression, "measure", lambda *_: pytest.fail("measured again"))
    main(argv)
    assert json.loads((tmp_path / "out/compression.json").read_text()) == stored


@pytest.mark.parametrize(
    "words, message",
    [
        ("--methods prune:2", "method is 'prune:2': choose int8"),
        ("--methods bf16 --encoders bf16=mel", "two encoders are named 'bf16'"),
        ("--tasks gtzan", "there is no task 'gtzan': choose from"),
    ],
)
def test_bad_command_is_refused(tmp_path, tiny_export, words, message):
    argv = [str(tiny_export), "--tasks", "nsynth_pitch", "--out", str(tmp_path), *words.split()]
    with pytest.raises(UserError, match=message):
        main(argv)
