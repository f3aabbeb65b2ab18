"""Pre-training that begins with weights of another model."""

import json
import shutil

import numpy as np
import pytest
import tiny
import torch
from speechbrain.lobes.models.transformer.Conformer import ConformerEncoder
from speechbrain.utils.checkpoints import Checkpointer

from recipes.pretrain.train import main
from speechbrain_music.utils.errors import UserError

KEPT = "encoder.layers.1.norm1.norm.weight"
NEW = "encoder.frontend.linear.weight"


@pytest.fixture
def speech(tmp_path):
    """A checkpoint of a speech encoder with the sizes of the tests' runs."""
    torch.manual_seed(7)
    model = ConformerEncoder(2, 16, 32, 4, kernel_size=5)
    torch.nn.init.uniform_(model.layers[1].norm1.norm.weight, 0.5, 1.5)
    return Checkpointer(tmp_path / "speech", {"model": model}).save_checkpoint().path


def model_of(run):
    return tiny.last_checkpoint(run)["model.ckpt"]


def test_interrupted_run_needs_no_source(speech, tone_folder, tmp_path):
    """One of three frozen steps, then the rest without the source, against one run."""
    state = torch.load(speech / "model.ckpt", weights_only=True)
    options = {"init_from": speech, "init_lr_scale": 0.5, "init_freeze_steps": 3}
    # The cosine ends where the run ends: a constant rate keeps the two comparable.
    options |= {"system": "cnf_att", "dropout": 0.1, "warmup_steps": 100}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    main(tiny.arguments(tone_folder, whole, **options))
    main(tiny.arguments(tone_folder, parts, max_steps=1, **options))
    frozen = model_of(parts)
    for name, value in state.items():
        name = f"encoder.{name.replace('mha_layer', 'mixer')}"
        torch.testing.assert_close(frozen[name], value, rtol=0, atol=0)
    assert not torch.equal(frozen[NEW], model_of(whole)[NEW])
    assert "  blocks     100.0% of values: " in (parts / "log.txt").read_text()
    shutil.rmtree(speech)
    main(tiny.arguments(tone_folder, parts, max_steps=5, **options))
    thawed = model_of(parts)
    assert not torch.equal(thawed[KEPT], frozen[KEPT]) and not torch.equal(thawed[NEW], frozen[NEW])
    main(tiny.arguments(tone_folder, parts, **options))
    for name in tiny.STATES:
        states = [tiny.last_checkpoint(run)[name] for run in (whole, parts)]
        torch.testing.assert_close(*states, rtol=0, atol=0)
    groups = tiny.last_checkpoint(whole)["optimizer.ckpt"]["param_groups"]
    assert [group["lr"] / groups[0]["lr"] for group in groups] == [1, 1, 0.5, 0.5]
    assert tiny.rows(whole, "train")[-1]["learning_rate"] == groups[0]["lr"]
    rows = json.loads((whole / "init.json").read_text())
    assert {row["status"] for row in rows if row["part"] in ("blocks", "norm")} == {"loaded"}
    with pytest.raises(UserError, match="init_freeze_steps was 3, is 0"):
        main(tiny.arguments(tone_folder, parts, **options | {"init_freeze_steps": 0}))


def test_statistics_and_frontend_of_an_export(tone_folder, tmp_path):
    sizes = {"ffn_units": 32, "frontend_channels": 2, "frontend_bypass": True}
    source = tiny.untrained_export(tmp_path / "export", frontend_norm=True, **sizes)
    options = {"init_from": source, "init_parts": "blocks,norm,frontend,statistics", "nhead": 2}
    options |= {"init_freeze_steps": 9, "dropout": 0.1}
    main(tiny.arguments(tone_folder, tmp_path / "run", max_steps=2, **options))
    (tmp_path / "run" / "corpus_statistics.npz").unlink()
    shutil.rmtree(source)
    main(tiny.arguments(tone_folder, tmp_path / "run", max_steps=3, **options))
    with np.load(tmp_path / "run" / "corpus_statistics.npz") as statistics:
        assert (statistics["mean"] == -4).all() and (statistics["std"] == 3.5).all()
    features, encoder = tiny.untrained_model(frontend_norm=True, **sizes)
    exported = tiny.exported(tmp_path / "run")
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(exported[f"encoder.{name}"], value, rtol=0, atol=0)
    assert (exported["features.normalize.mean"] == features.normalize.mean).all()


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"init_parts": "blocks,tail"}, "init_parts is .*'tail'.* blocks, norm, frontend"),
        ({"init_from": "missing"}, "init_from is missing: pass a file or a folder with"),
        ({"init_lr_scale": 0}, "init_lr_scale is 0: it must be above 0"),
        ({"d_model": 32}, "has d_model 16, and this model 32: pass --d_model 16"),
        ({"nhead": 2}, "has nhead 4, and this model 2: pass --nhead 4"),
    ],
)
def test_refused(changes, match, speech, tone_folder, tmp_path):
    options = {"init_from": speech, "system": "cnf_att"} | changes
    with pytest.raises(UserError, match=match):
        main(tiny.arguments(tone_folder, tmp_path / "run", **options))
