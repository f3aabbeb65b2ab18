"""Invalid options, folders and files: one sentence, an exit code, no output."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
import tiny

from recipes.pretrain.train import main
from speechbrain_music.utils.atomic import locked_folder
from speechbrain_music.utils.errors import UserError


def refused(arguments, match):
    with pytest.raises(UserError, match=match) as caught:
        main(arguments)
    assert "\n" not in str(caught.value).strip()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"effective_batch": 5}, "effective_batch 5 is no multiple .* set it to 4 or 6, or batch_"),
        ({"effective_batch": 16, "batch_size": 7}, "14 or 21, or batch_size to 4 or 8$"),
        ({"segments_per_epoch": 13}, "segments_per_epoch 13 .* set 12 or 18"),
        ({"segment_second": 3}, "unknown option --segment_second: did you mean --segment_seconds"),
        ({"mixer": "mamba"}, "mixer is mamba: it must be a class"),
        ({"nhead": 3}, "does not divide by nhead 3"),
        ({"segment_seconds": 0.5}, "segment_seconds 0.5 holds fewer than two mask blocks"),
        ({"reconstruct": "some"}, "reconstruct is 'some': it must be masked or all"),
        ({"grad_accumulation_factor": 2}, "use effective_batch"),
        ({"precision": "fp16"}, "precision is 'fp16': it must be fp32 or bf16"),
        ({"max_grad_norm": -1}, "max_grad_norm is -1: it must be above 0"),
        ({"valid_share": 2}, "valid_share is 2: it must be between 0 and 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"max_steps": 1.5}, "max_steps is 1.5"),
        ({"lr": "fast"}, "lr is 'fast'"),
        ({"codebook_size": 0}, "codebook_size is 0: it must be a whole number from 1 to"),
        ({"augment": "no"}, "augment is 'no': it must be true or false"),
        ({"dropout": 1}, "dropout is 1: it must be at least 0 and less than 1"),
        ({"encoder": 5}, "encoder is 5: it must be a class"),
        ({"modules": 5}, "modules is built by the yaml"),
        ({"data_folder": ""}, "data_folder is '': it must be a path"),
        ({"mixer": "nowhere.Mixer"}, "nowhere.Mixer.*PYTHONPATH"),
    ],
)
def test_invalid_option_values(changes, match, tone_folder, tmp_path):
    output = {"output_folder": tmp_path / "run"}
    refused(tiny.arguments(**{"data_folder": tone_folder} | changes, **output), match)
    assert not (tmp_path / "run" / "save").exists()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda root: root / "nowhere", "no folder"),
        (lambda root: root / "song.wav", "is a file"),
        (lambda root: root / "empty", "holds no audio"),
        (lambda root: root / "texts", "holds no audio.*\\.txt"),
        (lambda root: root / "unreadable", "0 usable of 2 pieces"),
        (lambda root: root / "one", "1 usable of 1 pieces"),
        (lambda root: root / "short", "0 usable of 2 pieces"),
    ],
)
def test_unusable_folders(make, match, tmp_path):
    for name in ("empty", "texts", "unreadable", "one", "short"):
        (tmp_path / name).mkdir()
    (tmp_path / "song.wav").write_bytes(b"")
    (tmp_path / "texts" / "a.txt").write_text("do re mi")
    for name in ("a.wav", "b.mp3"):
        (tmp_path / "unreadable" / name).write_text("do re mi")
    soundfile.write(tmp_path / "one" / "a.wav", [0.0] * 48000, 24000)
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / "short" / name, [0.1] * 12000, 24000)
    refused(tiny.arguments(make(tmp_path), tmp_path / "run"), match)
    left = [path.name for path in (tmp_path / "run").rglob("*.*")]
    assert not left or left == ["headers.jsonl"]  # the cache of headers
    refused(tiny.arguments(tmp_path / "one", tmp_path / "song.wav" / "run"), "cannot be written")


def test_unused_yaml_key(tone_folder, tmp_path):
    text = (tiny.ROOT / "hparams/brn_sum_tiny.yaml").read_text()
    (tmp_path / "own.yaml").write_text(text.replace("log_interval:", "log_intervall:"))
    arguments = tiny.arguments(tone_folder, tmp_path / "run")
    index = arguments.index("--log_interval")
    del arguments[index : index + 2]
    arguments[0] = str(tmp_path / "own.yaml")
    refused(arguments, "log_intervall: did you mean log_interval")


def test_manifest_without_column(tone_folder, tmp_path):
    own = tmp_path / "train.csv"
    own.write_text("ID,wav\na,$data_root/waltz.wav\n")
    refused(tiny.arguments(tone_folder, tmp_path / "run", train_csv=own, valid_csv=own), "duration")
    assert not (tmp_path / "run").exists()


def test_run_refuses_other_options(tone_folder, tmp_path):
    """Before anything is written."""
    run = tmp_path / "run"
    main(tiny.arguments(tone_folder, run, max_steps=1))
    files = [path for path in run.rglob("*") if path.is_file() and path.name != "log.txt"]
    before = {path: path.read_bytes() for path in files}
    for changes, match in (
        ({"segment_seconds": 3}, r"segment_seconds was 2, is 3\)"),
        ({"d_model": 8, "lr": 1}, r"d_model was 16, is 8; lr was 0.002, is 1\)"),
        (
            {"mixer": "speechbrain_music.nnet.attention.RotaryAttention"},
            "mixer was .*SummaryMixing",
        ),
    ):
        refused(tiny.arguments(tone_folder, run, max_steps=2, **changes), match)
    assert before == {path: path.read_bytes() for path in files}
    same = {"batch_size": 1, "num_workers": 1, "keep_in_memory": False, "lr": "2e-3"}
    main(tiny.arguments(tone_folder, run, max_steps=2, **same))
    assert [row["step"] for row in tiny.rows(run, "train")] == [1, 2]


def test_second_process_is_refused(tone_folder, tmp_path):
    with locked_folder(tmp_path / "run"):
        refused(tiny.arguments(tone_folder, tmp_path / "run"), "another process trains in")
    assert not (tmp_path / "run").exists()


def test_jit_is_refused(tone_folder, tmp_path):
    refused(
        [*tiny.arguments(tone_folder, tmp_path / "run"), "--jit"],
        "--jit is not used here: use compile",
    )


def test_names_with_special_characters(tmp_path):
    folder = tmp_path / "my music = 100% #1, {best}: <of>"
    for index in range(3):
        (folder / f"disc {index}").mkdir(parents=True)
        wave = np.random.default_rng(index).uniform(-0.1, 0.1, 96000)
        soundfile.write(folder / f"disc {index}" / "a=b.wav", wave, 24000)
    main(tiny.arguments(folder, tmp_path / "out put=1", max_steps=1))
    assert (tmp_path / "out put=1" / "export" / "config.json").exists()


def test_command_prints_one_line(tmp_path):
    script = tiny.ROOT / "recipes/pretrain/train.py"
    command = [sys.executable, str(script), *tiny.arguments(tmp_path / "nowhere", tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: There is no folder")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
