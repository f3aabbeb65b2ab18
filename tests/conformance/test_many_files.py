"""Tens of thousands of files: little memory, continued after a kill, headers read once."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

pytestmark = pytest.mark.slow
FILES = 30_000
SCRIPT = """
import re, sys
from speechbrain_music.data_prep.cli import main
code = main(["folder", sys.argv[1], "--out", sys.argv[2]])
print("peak", re.search("VmHWM:\\\\s*([0-9]+)", open("/proc/self/status").read()).group(1))
sys.exit(code)
"""


def start(folder, out):
    command = [sys.executable, "-c", SCRIPT, str(folder), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def prepare(folder, out):
    """Run in a process of its own; return its peak memory in bytes."""
    process = start(folder, out)
    peak = process.communicate()[0].split()[-1]
    assert process.returncode == 0
    return 1024 * int(peak)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root, encoded = tmp_path_factory.mktemp("many"), io.BytesIO()
    soundfile.write(encoded, np.zeros(1000), 1000, format="WAV", subtype="PCM_U8")
    for kind, files in (("few", FILES // 10), ("many", FILES)):
        for index in range(files):
            folder = root / kind / f"{index // 1000:03d}"
            folder.mkdir(parents=True, exist_ok=index % 1000 > 0)
            (folder / f"{index:06d}.wav").write_bytes(encoded.getvalue())
    return root


def lines(path):
    return path.read_text().count("\n") if path.exists() else 0


def test_many_files(folders):
    few_memory = prepare(folders / "few", folders / "few_out")
    log = folders / "out" / "headers.jsonl"
    process = start(folders / "many", folders / "out")
    while lines(log) < FILES // 4:
        assert process.poll() is None
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = lines(log)
    assert FILES // 4 <= done < FILES
    assert sorted(os.listdir(log.parent)) == ["headers.jsonl"]

    memory = prepare(folders / "many", folders / "out")
    assert FILES <= lines(log) <= FILES + 1  # at most the line that the kill tore
    report = json.loads((log.parent / "report.json").read_text())
    assert sum(part["files"] for part in report["splits"].values()) == FILES

    before = {path: path.stat().st_mtime_ns for path in log.parent.iterdir()}
    prepare(folders / "many", folders / "out")
    assert {path: path.stat().st_mtime_ns for path in log.parent.iterdir()} == before
    prepare(folders / "many", folders / "whole")
    for name in ("train.csv", "valid.csv"):
        assert (folders / "whole" / name).read_bytes() == (folders / "out" / name).read_bytes()
    grown = (memory - few_memory) / (FILES - FILES // 10)
    print(f"\npeak {memory / 2**20:.0f} MiB: {grown:.0f} bytes a file")
    assert grown < 2048  # a row and a remembered header, no more
