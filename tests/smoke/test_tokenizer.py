"""The tokenizer recipe on the command line, and pre-training on its targets."""

import json
from shutil import copytree, rmtree
from unittest.mock import Mock

import numpy as np
import pytest
import tiny
import torch

from recipes.pretrain.train import main as pretrain
from recipes.tokenizer.train import MODEL_OPTIONS, OPTIONS, main
from speechbrain_music.dataio.audio import AudioError
from speechbrain_music.dataio.segments import TRAIN, SegmentDataset
from speechbrain_music.inference.cli.export import export_best
from speechbrain_music.metrics.held_out import QuantizerMetrics
from speechbrain_music.models.export import load_export
from speechbrain_music.models.targets import load_targets
from speechbrain_music.reporting.model_card import model_card
from speechbrain_music.utils.config import load_experiment
from speechbrain_music.utils.errors import UserError


@pytest.fixture(scope="module", params=tiny.QUANTIZERS)
def trained(request, tone_folder, tmp_path_factory):
    """A kind, and the folder of a run of it: three epochs of ten steps."""
    output = tmp_path_factory.mktemp(request.param) / "run"
    options = {"segments_per_epoch": 60, "log_interval": 10, "lr": 0.01}
    main(tiny.tokenizer_arguments(request.param, tone_folder, output, **options))
    return request.param, output


def test_trains_and_exports(trained):
    kind, output = trained
    train, valid = tiny.rows(output, "train"), tiny.rows(output, "valid")
    assert [row["step"] for row in train] == [row["step"] for row in valid] == [10, 20, 30]
    assert all(np.isfinite(row["mel_mse"]) and row["commitment_loss"] > 0 for row in train)
    assert "reinitialised" in train[0]
    for row in valid:
        config = load_targets(output / "quantizer").config
        assert row["codes_used"] + row["dead_codes"] == config["codebook_size"]
        books = [row[f"perplexity_of_{i}"] for i in range(config["num_codebooks"])]
        assert row["perplexity"] == pytest.approx(np.mean(books)) and min(books) >= 1
    assert valid[-1]["mel_mse"] < 0.98 * valid[-1]["mel_mse_mean"]
    assert train[-1]["mel_mse"] < train[0]["mel_mse"]
    assert (output / "curves.png").exists()
    written = json.loads((output / "quantizer" / "config.json").read_text())
    best = min(valid, key=lambda row: row["mel_mse"])
    assert written["quantizer"]["kind"] == kind and written["training"]["step"] == best["step"]
    assert written["training"]["corpora"][0]["hours"] > 0


def test_resumed_run_equals_one_run(trained, tone_folder, tmp_path):
    for name, *stops in (("whole",), ("parts", 3, 3, 6)):  # the second 3 finds all done
        for stop in stops or [6]:
            options = {"warmup_steps": 100, "max_steps": stop}  # the cosine ends where the run ends
            main(tiny.tokenizer_arguments(trained[0], tone_folder, tmp_path / name, **options))
    ends = [tiny.last_checkpoint(tmp_path / name)["model.ckpt"] for name in ("whole", "parts")]
    torch.testing.assert_close(*ends, rtol=0, atol=0)
    files = [tmp_path / name / "quantizer" / "model.safetensors" for name in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_pretraining_on_trained_targets(trained, tone_folder, tmp_path):
    run = tmp_path / "run"
    folder = copytree(trained[1] / "quantizer", tmp_path / "quantizer")
    pretrain(tiny.arguments(tone_folder, run, targets=folder, max_steps=2))
    assert [row["step"] for row in tiny.rows(run, "train")] == [1, 2]
    model, targets = load_export(run / "export"), load_targets(folder)
    assert model.config["training"]["quantizer"] == targets.config
    # Of the same music, seed and segments the statistics are the same: the tokens need no change.
    assert torch.equal(model.features.normalize.mean, targets.mean)
    assert torch.equal(model.features.normalize.std, targets.std)
    counted = np.load(run / "corpus_statistics.npz")["unigram"]
    assert counted.shape == (targets.config["num_codebooks"], targets.config["codebook_size"])
    assert "BEST-RQ" in model_card(run / "export", "me/mine")
    # Resuming, exporting, and refusing other targets.
    pretrain(tiny.arguments(tone_folder, run, targets=folder, max_steps=3))
    assert export_best(run, tmp_path / "again") in (1, 2, 3)
    rmtree(folder)
    with pytest.raises(
        UserError, match="hyperparams.yaml cannot be loaded.*is no trained quantizer"
    ):
        export_best(run, tmp_path / "again")
    with pytest.raises(UserError, match="targets was .*quantizer.*, is None"):
        pretrain(tiny.arguments(tone_folder, run, max_steps=4))


def test_iterated_targets(tone_folder, tmp_path):
    """Pre-training, a quantizer of one of its layers, pre-training on its tokens."""
    pretrain(tiny.arguments(tone_folder, tmp_path / "first", max_steps=1))
    options = {"features_from": f"{tmp_path / 'first/export'}:1", "max_steps": 2}
    main(tiny.tokenizer_arguments("rvq", tone_folder, tmp_path / "rvq", **options))
    folder = tmp_path / "rvq/quantizer"
    assert load_targets(folder).config["teacher"]["layer"] == 1
    pretrain(tiny.arguments(tone_folder, tmp_path / "second", targets=folder, max_steps=1))
    counted = np.load(tmp_path / "second/corpus_statistics.npz")["unigram"]
    assert counted.shape == (2, 8)
    quantizer = load_export(tmp_path / "second/export").config["training"]["quantizer"]
    assert quantizer == load_targets(folder).config


@pytest.mark.parametrize("kind", tiny.QUANTIZERS)
def test_yaml_keys_and_options_agree(kind):
    yaml = str(tiny.ROOT / f"hparams/{kind}.yaml")
    hparams = load_experiment([yaml], OPTIONS, MODEL_OPTIONS)[1]
    assert set(OPTIONS) <= set(hparams) and hparams["system"] == kind


def test_invalid_values(trained, tone_folder, tmp_path):
    run = tmp_path / "run"
    for changes, words in (
        ({"commitment_weight": -1}, "commitment_weight is -1: it must be 0 or more"),
        ({"dead_code_threshold": 1}, "dead_code_threshold is 1: it must be between 0 and 1"),
        ({"codebook_size": 0}, "codebook_size is 0"),
        ({"level": 3}, "unknown option --level"),
    ):
        with pytest.raises(UserError, match=words):
            main(tiny.tokenizer_arguments("rvq", tone_folder, run, **changes))
    for targets, words in (
        (trained[1], f"it is the folder of a run: pass {trained[1]}/quantizer"),
        ("rvg", "rvg is no trained quantizer, it does not exist"),
    ):
        with pytest.raises(UserError, match=words):
            pretrain(tiny.arguments(tone_folder, run, targets=targets))
    assert not run.exists()


def test_bad_batches_do_not_reach_the_codebooks(tone_folder, tmp_path, monkeypatch):
    getitem = SegmentDataset.__getitem__

    def spoiled(self, draw):
        place = (draw.epoch, draw.index) if self.stream == TRAIN else None
        if place in [(1, 0), (1, 1), (1, 4)]:  # a whole batch, and half of one
            self._read = Mock(side_effect=AudioError("a.wav cannot be read."))
        item = getitem(self, draw)
        if place == (2, 7):
            item["wave"] = item["wave"] * torch.nan
        self.__dict__.pop("_read", None)
        return item

    monkeypatch.setattr(SegmentDataset, "__getitem__", spoiled)
    main(tiny.tokenizer_arguments("rvq", tone_folder, tmp_path, max_steps=5))
    rows = tiny.rows(tmp_path, "train")
    assert [row["skipped_steps"] for row in rows] == [0, 0, 0, 1, 1]
    assert all(np.isfinite(row["mel_mse"]) for row in rows if row["step"] != 4)
    state = tiny.last_checkpoint(tmp_path)["model.ckpt"]
    assert all(value.isfinite().all() for value in state.values())
    assert "cannot be read" in (tmp_path / "unreadable.csv").read_text()


def test_collapse_is_reported():
    metrics, rows = QuantizerMetrics(codebooks=2, entries=50), torch.full((500, 3), 2.0)
    tokens = torch.stack([torch.arange(500) % 50, torch.arange(500) % 4], dim=1)
    metrics.update(rows - 1, rows, tokens)
    figures = metrics.figures(metrics.sums)
    assert (figures["mel_mse"], figures["mel_mse_mean"], figures["dead_codes"]) == (1, 4, 23)
    assert figures["collapsed"] == 1
    assert figures["perplexity_of_0"] == pytest.approx(50)
    assert figures["perplexity_of_1"] == pytest.approx(4)
    assert QuantizerMetrics(1, 5).figures(QuantizerMetrics(1, 5).sums) == {}
