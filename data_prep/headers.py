"""Headers of many audio files: read in parallel, cached in a log, read again only if changed."""

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from speechbrain_music.dataio import audio

_BATCH = 1024  # headers in flight: a pool given all files at once would hold a task for each
_UNFIT = re.compile(r"[\r\n\ud800-\udfff]|\$data_root")  # surrogates: bytes that are not UTF-8


def read_headers(root, names, log):
    """Name -> `AudioInfo` without channels, or why (str) the audio file `root/name` is unusable.

    The log has a JSON list per line: name, bytes, time of the last change (ns), frames, rate.
    Headers of unchanged files come from it; others are read and appended at once, so that an
    interrupted run continues where it stopped. Files that cannot be read are not logged.
    """
    root, log, names = Path(root), Path(log), list(names)
    known, found = _read_log(log), {}
    workers = min(32, 4 * (os.cpu_count() or 1))  # headers wait for the disk, not for a core
    progress = tqdm(total=len(names), desc="Reading headers", unit="file", disable=None)
    with progress, ThreadPoolExecutor(workers) as pool:
        for begin in range(0, len(names), _BATCH):
            batch = names[begin : begin + _BATCH]
            new = []
            looked = pool.map(lambda name: _look(root, name, known.pop(name, None)), batch)
            for name, (header, line) in zip(batch, looked, strict=True):
                found[name] = header
                if line:
                    new.append(line)
                progress.update()
            if new:
                log.parent.mkdir(parents=True, exist_ok=True)
                with open(log, "a", encoding="utf-8") as file:
                    file.writelines(new)
    return found


def _read_log(log):
    """Name -> (bytes, time, frames, rate); lines that are torn by a kill or damaged are ignored."""
    known = {}
    if log.exists():
        with open(log, encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    name, *numbers = json.loads(line)
                    size, time, frames, rate = numbers
                    if type(frames) is int and 0 < frames < 2**63 and rate in audio.SAMPLE_RATES:
                        known[name] = (size, time, frames, rate)
                except (ValueError, TypeError, RecursionError):
                    continue
    return known


def _look(root, name, known):
    """The header or the reason, and the line for the log if it is new."""
    if _UNFIT.search(name):
        reason = "its name has a line break, $data_root or bytes that are not UTF-8; rename it"
        return reason, None
    path = os.path.join(root, name)
    try:
        status = os.stat(path)
        state = [status.st_size, status.st_mtime_ns]
    except OSError:
        state = None  # audio_info raises with the reason
    if known and state == list(known[:2]):
        return audio.AudioInfo(*known[2:]), None
    try:
        info = audio.audio_info(path)
    except audio.AudioError as error:
        return str(error).removeprefix(f"{path}: ").rstrip("."), None
    entry = [name, *(state or (0, 0)), info.frames, info.sample_rate]
    # The line break comes first, so that a torn last line does not swallow this one.
    return info._replace(channels=None), f"\n{json.dumps(entry)}"
