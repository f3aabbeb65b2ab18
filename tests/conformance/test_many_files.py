"""Memory of preparing tens of thousands of files."""

import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile

SCRIPT = """
import sys
from speechbrain_music.data_prep.cli import main
code = main(["folder", sys.argv[1], "--out", sys.argv[2]])
print(open("/proc/self/status").read())
sys.exit(code)
"""


@pytest.mark.slow
def test_memory_per_file(tmp_path):
    encoded, sizes, peaks = io.BytesIO(), (3_000, 30_000), []
    soundfile.write(encoded, np.zeros(1000), 1000, format="WAV", subtype="PCM_U8")
    for size in sizes:
        music, out = tmp_path / f"{size}", tmp_path / f"{size}_out"
        for index in range(size):
            folder = music / f"{index // 1000:03d}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{index:06d}.wav").write_bytes(encoded.getvalue())
        command = [sys.executable, "-c", SCRIPT, music, out]
        printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        peaks.append(1024 * int(re.search(r"VmHWM:\s*([0-9]+)", printed)[1]))
        report = json.loads((out / "report.json").read_text())
        assert sum(part["files"] for part in report["splits"].values()) == size
    grown = (peaks[1] - peaks[0]) / (sizes[1] - sizes[0])
    print(f"\npeak {peaks[1] / 2**20:.0f} MiB: {grown:.0f} bytes a file")
    assert grown < 2048  # a row and a remembered header, no more
