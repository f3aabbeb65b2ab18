"""Kills each long job several times at random moments: does it end with the same bytes?

python tests/kills.py [KILLS]

Prints a row per job; the exit code is 1 if one ended otherwise than an undisturbed run.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tiny
from tones import write_tones

PYTHON = [sys.executable]
SBMUSIC = [*PYTHON, "-m", "speechbrain_music.inference.cli"]
TIMES = {"tokens_per_second", "unixtime"}


def recipe(name, argv):
    return [*PYTHON, str(tiny.ROOT / f"recipes/{name}/train.py"), *argv]


def jobs(work, tones):
    """name -> (command for an output folder, what of it is compared)."""
    tiny.untrained_export(work / "model")
    model = ["--model", work / "model"]
    size = {"hidden": 8, "fine_tune_epochs": 3, "fine_tune_batch": 4, "effective_batch": 8}
    task = {"encoder": work / "model", "data_folder": work / "gtzan", "freeze_encoder": False}
    task |= {"number_of_epochs": 2, "quick": True, "ckpt_interval_minutes": 0.0001} | size
    pairs = [str(part) for key, value in task.items() for part in (f"--{key}", value)]
    replica = [*PYTHON, "-m", "speechbrain_music.data_prep.replica"]
    subprocess.run([*replica, "gtzan", "--out", work / "gtzan", "--scale", "0.0001"], check=True)
    return {
        "pre-training": (
            lambda out: recipe(
                "pretrain",
                tiny.arguments(tones, out, number_of_epochs=6, ckpt_interval_minutes=0.001),
            ),
            run_state,
        ),
        "tokenizer": (
            lambda out: recipe(
                "tokenizer", tiny.tokenizer_arguments("rvq", tones, out, number_of_epochs=6)
            ),
            run_state,
        ),
        "fine-tuning": (
            lambda out: recipe(
                "gtzan_genre",
                [
                    *(str(tiny.ROOT / "hparams/gtzan_genre.yaml"), *pairs, "--noprogressbar"),
                    *("--output_folder", out, "--feature_folder", out / "features"),
                ],
            ),
            lambda out: np.load(out / "predictions.npz")["logits"].tobytes(),
        ),
        "embed, a vector per file": (
            lambda out: [*SBMUSIC, "embed", tones, *model, "--out", out / "e.npz"],
            lambda out: np.load(out / "e.npz")["embeddings"].tobytes(),
        ),
        "embed, all frames": (
            lambda out: [*SBMUSIC, "embed", tones, *model, "--pool", "none", "--out", out / "e"],
            tree,
        ),
        "composed music": (
            lambda out: [*replica, "corpus", "--out", out / "music", "--hours", "0.02"],
            lambda out: tree(out / "music"),
        ),
        "folder": (
            lambda out: [
                *PYTHON,
                "-m",
                "speechbrain_music.data_prep",
                "folder",
                tones,
                "--out",
                out / "m",
            ],
            lambda out: tree(out / "m"),
        ),
    }


def tree(folder):
    """Bytes of all files, without remains of another run's locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def run_state(out):
    """Exported bytes, and rows of metrics without times."""
    (result,) = (out / name for name in ("export", "quantizer") if (out / name).is_dir())
    rows = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return tree(result), [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def run(command, seconds=None):
    """Starts a command and kills it after some seconds; its exit code and how long it ran."""
    begun = time.monotonic()
    process = subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
    return process.returncode, output.decode(errors="replace"), time.monotonic() - begun


def main(kills=4):
    """Prints the table; returns how many jobs ended otherwise."""
    wrong = 0
    print("| job | seconds | killed | ends with the same bytes |\n|---|---:|---:|---|")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "tones").mkdir()
        write_tones(work / "tones")
        for name, (command, state) in jobs(work, work / "tones").items():
            draw, key = random.Random(name), name.replace(" ", "_").replace(",", "")
            whole, killed = work / f"{key}/whole", work / f"{key}/killed"
            code, output, seconds = run(command(whole))
            assert code == 0, output
            done = 0
            for _ in range(kills):
                done += run(command(killed), draw.uniform(0.2, 0.7) * seconds)[0] < 0
            code, output, _ = run(command(killed))
            same = code == 0 and state(whole) == state(killed)
            wrong += not same
            print(f"| {name} | {seconds:.0f} | {done} times | {'yes' if same else output[-500:]} |")
    return wrong


if __name__ == "__main__":
    sys.exit(bool(main(*map(int, sys.argv[1:]))))
