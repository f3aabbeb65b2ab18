"""The pre-training recipe: training, output, resuming, unusable audio."""

import json
import os
import shutil
import signal
from unittest.mock import Mock

import numpy as np
import pytest
import soundfile
import tiny
import torch

from recipes.pretrain.train import main
from speechbrain_music.brains.base import MusicBrain
from speechbrain_music.data_prep.registry import DATA_SETS
from speechbrain_music.dataio import segments
from speechbrain_music.dataio.audio import read_segment
from speechbrain_music.models.export import load_export
from speechbrain_music.models.parts import import_class
from speechbrain_music.utils.errors import UserError

SYSTEMS = ("brn_sum", "brn_att", "cnf_sum", "cnf_att")


@pytest.mark.parametrize("system", SYSTEMS)
def test_trains_and_exports(system, tone_folder, tmp_path):
    main(tiny.arguments(tone_folder, tmp_path / "run", system))
    steps = [row["step"] for row in tiny.rows(tmp_path / "run", "train")]
    assert steps == [1, 2, 3, 4, 5, 6]
    valid = tiny.rows(tmp_path / "run", "valid")
    assert [row["step"] for row in valid] == [2, 4, 6]
    assert valid[-1]["loss"] < valid[0]["loss"]
    assert (tmp_path / "run" / "curves.png").exists()
    assert list((tmp_path / "run" / "tensorboard").iterdir())

    model = load_export(tmp_path / "run" / "export")
    best = min(valid, key=lambda row: row["loss"])
    assert model.config["training"]["step"] == best["step"]
    assert model.config["training"]["system"] == f"{system}_tiny"
    out, hidden, lengths = model(torch.randn(1, 48000))
    assert out.shape == (1, 50, 16) and len(hidden) == 3 and lengths.tolist() == [50]
    assert not model.features.normalize.mean.eq(0).any()  # the corpus's statistics travel along


@pytest.mark.parametrize("options", [{}, {"cqt_weight": 0.5, "num_codebooks": 2}])
def test_resumed_run_equals_one_run(options, tone_folder, tmp_path):
    """A run that stops at max_steps, in the middle of an epoch, and is resumed."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    # The cosine ends where the run ends: a constant rate keeps the two comparable.
    options = {"warmup_steps": 100, "dropout": 0.1} | options
    main(tiny.arguments(tone_folder, whole, **options))
    for steps in (3, 3, 6):  # the second finds all done
        main(tiny.arguments(tone_folder, parts, max_steps=steps, **options))
    ends = [tiny.last_checkpoint(folder)["model.ckpt"] for folder in (whole, parts)]
    torch.testing.assert_close(*ends, rtol=0, atol=0)
    assert [r["step"] for r in tiny.rows(parts, "train")] == [1, 2, 3, 4, 5, 6]


def test_cqt_targets(tone_folder, tmp_path):
    """Their loss is added, reported, and absent without a weight; their heads stay in the run."""
    names = ("with", "without")
    for name, weight in zip(names, (0.5, 0), strict=True):
        main(tiny.arguments(tone_folder, tmp_path / name, cqt_weight=weight))
    on, off = (tiny.rows(tmp_path / name, "valid") for name in names)
    for row in on:
        parts = row["cross_entropy"], 3 * row["mel_mse"], 0.5 * row["cqt_cross_entropy"]
        assert row["loss"] == pytest.approx(sum(parts))
    assert on[-1]["cqt_cross_entropy"] < on[0]["cqt_cross_entropy"]
    assert "CQT cross-entropy" in (tmp_path / "with" / "log.txt").read_text()
    assert on[0]["cqt_cross_entropy_unigram"] > 0
    exports = [tiny.exported(tmp_path / name).keys() for name in names]
    models = [tiny.last_checkpoint(tmp_path / name)["model.ckpt"].keys() for name in names]
    assert exports[0] == exports[1] and any("cqt_head" in key for key in models[0] - models[1])
    one, two = (dict(np.load(tmp_path / name / "corpus_statistics.npz")) for name in names)
    assert one["key"] != two["key"] and one["cqt_unigram"].sum() == one["unigram"].sum()
    assert not [key for key in (*off[0], *models[1], *two) if "cqt" in key]
    assert all(np.array_equal(one[key], two[key]) for key in ("mean", "std", "unigram", "pairs"))


def test_composes_music_without_data_folder(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    arguments = tiny.arguments("-", tmp_path / "run", replica_hours=0.03, number_of_epochs=1)
    position = arguments.index("--data_folder")
    del arguments[position : position + 2]
    main(arguments)
    assert "composed music in data/replica/corpus_0.03h" in caplog.text
    assert len(list(tmp_path.glob("data/replica/corpus_0.03h/*/*.wav"))) >= 2
    assert (tmp_path / "run" / "export").is_dir()


def test_custom_mixer(tone_folder, tmp_path, monkeypatch):
    """One line of the yaml, or one option, exchanges the mixer; its export needs the class."""
    (tmp_path / "my_mixers.py").write_text(
        "import torch\n"
        "class Shift(torch.nn.Module):\n"
        "    def __init__(self, d_model, nhead, dropout):\n"
        "        super().__init__()\n"
        "        self.weight = torch.nn.Parameter(torch.zeros(d_model))\n"
        "    def forward(self, x, padding_mask=None):\n"
        "        return x + self.weight\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yaml = (tiny.ROOT / "hparams/brn_sum_tiny.yaml").read_text()
    line = "mixer: !name:speechbrain_music.nnet.summary_mixing.SummaryMixing"
    assert line in yaml
    (tmp_path / "own.yaml").write_text(yaml.replace(line, "mixer: !name:my_mixers.Shift"))
    _, *options = tiny.arguments(tone_folder, tmp_path / "yaml", max_steps=1)
    main([str(tmp_path / "own.yaml"), *options])
    main(tiny.arguments(tone_folder, tmp_path / "option", max_steps=1, mixer="my_mixers.Shift"))
    weights = [tiny.exported(tmp_path / name) for name in ("yaml", "option")]
    torch.testing.assert_close(*weights, rtol=0, atol=0)
    assert "!name:my_mixers.Shift" in (tmp_path / "option" / "hyperparams.yaml").read_text()
    with pytest.raises(UserError, match="'my_mixers.Shift' is not of this package"):
        load_export(tmp_path / "yaml" / "export")
    shift = import_class("my_mixers.Shift")
    model = load_export(tmp_path / "yaml" / "export", classes=[shift])
    assert type(model.encoder.layers[0].mixer) is shift


@pytest.fixture
def spoiled(monkeypatch):
    """Changes the wave of some draws: {(epoch, index): function of the wave}."""
    changes = {}
    original = segments.SegmentDataset.__getitem__

    def getitem(self, draw):
        item = original(self, draw)
        change = changes.get((draw.epoch, draw.index)) if self.stream == segments.TRAIN else None
        return item | ({"wave": change(item["wave"])} if change else {})

    monkeypatch.setattr(segments.SegmentDataset, "__getitem__", getitem)
    return changes


def test_loud_batch_is_clipped_and_nonfinite_batch_skipped(spoiled, tone_folder, tmp_path):
    spoiled[(1, 7)] = lambda wave: wave * float("nan")
    spoiled.update({(1, index): lambda wave: 1e8 * wave for index in range(6)})
    main(tiny.arguments(tone_folder, tmp_path, max_steps=3))
    rows = tiny.rows(tmp_path, "train")
    assert [row["skipped_steps"] for row in rows] == [0, 1, 1]
    assert rows[0]["gradient_norm"] > 1
    assert all(value.isfinite().all() for value in tiny.exported(tmp_path).values())


def test_many_nonfinite_batches_end_the_run(spoiled, tone_folder, tmp_path):
    spoiled.update({(1, index): lambda wave: wave * float("inf") for index in range(12)})
    with pytest.raises(UserError, match="2 steps in a row were not finite"):
        main(tiny.arguments(tone_folder, tmp_path, nonfinite_patience=1))


@pytest.mark.parametrize(
    "train, valid, words",
    [
        (np.nan, 1.0, "none of the 3 steps was finite"),
        (1.0, np.nan, "no checkpoint in .* has a finite loss: training diverged"),
    ],
)
def test_nothing_that_is_not_finite_is_exported(
    train, valid, words, monkeypatch, tone_folder, tmp_path
):
    getitem = segments.SegmentDataset.__getitem__

    def spoil(self, draw):
        item = getitem(self, draw)
        factor = {segments.TRAIN: train, segments.VALID: valid}.get(self.stream, 1.0)
        return item | {"wave": factor * item["wave"]}

    monkeypatch.setattr(segments.SegmentDataset, "__getitem__", spoil)
    with pytest.raises(UserError, match=words):
        main(tiny.arguments(tone_folder, tmp_path, max_steps=3))
    assert not (tmp_path / "export").exists()


def test_debug_leaves_a_finished_run_alone(tone_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    arguments = tiny.arguments(tone_folder, tmp_path / "run", max_steps=2)
    main(arguments)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*[!t]")}  # no log.txt
    main([*arguments, "--debug"])
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*[!t]")} == before
    assert list((tmp_path / "temporary").glob("*/export/config.json"))


@pytest.mark.parametrize(
    "number, stream, draw, options",
    [
        (signal.SIGINT, segments.TRAIN, (1, 1), {"number_of_epochs": 1, "log_interval": 2}),
        (signal.SIGTERM, segments.VALID, (0, 0), {"number_of_epochs": 2, "segments_per_epoch": 6}),
    ],
    ids=["in a step", "in validation"],
)
def test_signal_ends_the_step_and_saves(
    number, stream, draw, options, tone_folder, tmp_path, monkeypatch, capsys
):
    """Rows and weights at the end are those of an undisturbed run, except for times."""
    main(tiny.arguments(tone_folder, tmp_path / "whole", **options))
    handler = signal.getsignal(number)
    getitem, killed = segments.SegmentDataset.__getitem__, []

    def interrupt(self, index):
        if (self.stream, index[:2]) == (stream, draw) and not killed:
            killed.append(os.kill(os.getpid(), number))
        return getitem(self, index)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(segments.SegmentDataset, "__getitem__", interrupt)
        main(tiny.arguments(tone_folder, tmp_path / "run", **options))
    assert ended.value.code == 128 + number
    assert tiny.last_checkpoint(tmp_path / "run")["CKPT.yaml"]["step"] == 1
    assert "interrupted, saved step 1: run the same command" in capsys.readouterr().err
    assert signal.getsignal(number) == handler
    main(tiny.arguments(tone_folder, tmp_path / "run", **options))
    tiny.assert_same_end(tmp_path / "whole", tmp_path / "run")


def test_training_figures_are_of_masked_tokens(tone_folder, tmp_path):
    """Also where all tokens are reconstructed."""
    for reconstruct in ("masked", "all"):
        main(
            tiny.arguments(
                tone_folder, tmp_path / reconstruct, max_steps=1, reconstruct=reconstruct
            )
        )
    first, second = (tiny.rows(tmp_path / name, "train")[0] for name in ("masked", "all"))
    assert first["mel_mse"] == second["mel_mse"]
    text = (tmp_path / "all" / "log.txt").read_text()
    assert "For so few recordings pass --augment True" in text


def test_compiled_run_with_checkpoints_by_steps_and_minutes(tone_folder, tmp_path, monkeypatch):
    compiled = Mock(side_effect=lambda module, **_: module)
    monkeypatch.setattr(torch, "compile", compiled)
    saved = Mock(wraps=MusicBrain._save_intra_epoch_ckpt)
    monkeypatch.setattr(MusicBrain, "_save_intra_epoch_ckpt", lambda self: saved(self))
    arguments = tiny.arguments(tone_folder, tmp_path, segments_per_epoch=18, number_of_epochs=1)
    main([*arguments, "--compile", "--ckpt_interval_steps", "3", "--ckpt_interval_minutes", "9"])
    assert saved.call_count == 2
    names = {type(call.args[0]).__name__ for call in compiled.call_args_list}
    assert names == {"Encoder", "TokenHead", "MelHead"}  # not what must be exact


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler")
def test_a_compiled_run_trains_the_same(tone_folder, tmp_path):
    """By inductor itself."""
    losses = {}
    for name in ("eager", "compiled"):
        argv = tiny.arguments(tone_folder, tmp_path / name, max_steps=2)
        main(argv + ["--compile"] * (name == "compiled"))
        losses[name] = [row["cross_entropy"] for row in tiny.rows(tmp_path / name, "train")]
    assert losses["compiled"] == pytest.approx(losses["eager"], rel=1e-4)


def test_silence_dc_square_waves(tmp_path):
    time = np.arange(5 * 24000)
    sounds = {
        "silence": np.zeros(len(time)),
        "dc": np.full(len(time), 0.9),
        "square": np.where(time // 50 % 2, 1.0, -1.0),
        "silence too": np.zeros(len(time)),
    }
    for name, wave in sounds.items():
        soundfile.write(tmp_path / f"{name}.wav", wave, 24000, subtype="FLOAT")
    main(tiny.arguments(tmp_path, tmp_path / "run", max_steps=4))
    assert all(np.isfinite(row["cross_entropy"]) for row in tiny.rows(tmp_path / "run", "train"))
    assert all(value.isfinite().all() for value in tiny.exported(tmp_path / "run").values())
    assert "perplexity is" in (tmp_path / "run" / "log.txt").read_text()  # the warning


def test_unreadable_files_are_listed(tone_folder, tmp_path):
    train, valid = tmp_path / "train.csv", tmp_path / "valid.csv"
    DATA_SETS["folder"].prepare(tone_folder, tmp_path)
    text = train.read_text()
    name = text.splitlines()[1].split(",")[0]
    train.write_text(text.replace(f"$data_root/{name}", "$data_root/vanished.wav"))
    main(tiny.arguments(tone_folder, tmp_path / "own", train_csv=train, valid_csv=valid))
    assert "vanished.wav" in (tmp_path / "own" / "unreadable.csv").read_text()
    assert "1 files could not be read" in (tmp_path / "own" / "log.txt").read_text()
    assert not (tmp_path / "own" / "manifests").exists()


def test_real_recordings(real_audio, tmp_path):
    for steps in (2, 4):
        main(tiny.arguments(real_audio, tmp_path, max_steps=steps))
    assert [row["step"] for row in tiny.rows(tmp_path, "train")] == [1, 2, 3, 4]
    report = json.loads((tmp_path / "manifests" / "report.json").read_text())
    assert sum(split["files"] for split in report["splits"].values()) == 34
    assert report["skipped"] == 0
    song = read_segment(sorted(real_audio.rglob("*.ogg"))[0], length=60000)
    out, _, lengths = load_export(tmp_path / "export")(torch.from_numpy(song).unsqueeze(0))
    assert out.shape == (1, 63, 16) and lengths.tolist() == [63] and out.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_full_size_steps_on_real_recordings(system, real_audio, tmp_path):
    main(
        [
            str(tiny.ROOT / f"hparams/{system}.yaml"),
            *("--data_folder", str(real_audio), "--output_folder", str(tmp_path)),
            *("--effective_batch", "4", "--max_steps", "3", "--num_workers", "0"),
            *("--segment_seconds", "6", "--statistics_segments", "50", "--valid_segments", "8"),
            *("--log_interval", "1", "--noprogressbar"),
        ]
    )
    rows = tiny.rows(tmp_path, "train")
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all(np.isfinite(row["cross_entropy"]) and row["skipped_steps"] == 0 for row in rows)
    out, hidden, _ = load_export(tmp_path / "export")(torch.randn(1, 48000))
    assert out.shape == (1, 50, 512) and len(hidden) == 13
