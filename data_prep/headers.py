"""Headers of many audio files: read in parallel, cached in a log, read again only if changed."""

import json
import os
import re
from contextlib import suppress
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path

from tqdm import tqdm

from speechbrain_music.dataio import audio

_CHUNK = 64  # headers of a thread's task: the pool holds all tasks at once
_UNFIT = re.compile(r"[\r\n\ud800-\udfff]|\$data_root")  # surrogates: bytes that are not UTF-8


def read_headers(root, names, log):
    """Name -> `AudioInfo`, or why (str) the audio file `root/name` is unusable.

    The log has a JSON list per line: name, bytes, time of the last change (ns), frames, rate.
    Headers of unchanged files come from it; others are read and appended as they come, so that an
    interrupted run continues where it stopped. Files that cannot be read are not logged.
    """
    log, names, found = Path(log), list(names), {}
    workers = min(32, 4 * (os.cpu_count() or 1))  # headers wait for the disk, not for a core
    known = _read_log(log)
    log.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPool(workers) as pool, open(log, "a", encoding="utf-8") as file:
        looked = pool.imap(partial(_look, root, known), names, _CHUNK)
        progress = tqdm(looked, "Reading headers", len(names), unit="file", disable=None)
        for name, (header, line) in zip(names, progress, strict=True):
            found[name] = header
            file.write(line)
    return found


def _read_log(log):
    """(name, bytes, time) -> `AudioInfo`; lines that are torn by a kill or damaged are ignored."""
    known = {}
    if log.exists():
        with open(log, encoding="utf-8", errors="replace") as file:
            for line in file:
                with suppress(ValueError, TypeError, RecursionError):
                    *state, frames, rate = json.loads(line)
                    if type(frames) is int and 0 < frames < 2**63 and rate in audio.SAMPLE_RATES:
                        known[tuple(state)] = audio.AudioInfo(frames, rate)
    return known


def _look(root, known, name):
    """The header or the reason, and the line for the log if it is new."""
    if _UNFIT.search(name):
        reason = "its name has a line break, $data_root or bytes that are not UTF-8; rename it"
        return reason, ""
    path = os.path.join(root, name)
    stamp = audio.file_stamp(path) or "0 0"  # audio_info raises with the reason
    state = (name, *map(int, stamp.split()))
    if state in known:
        return known[state], ""
    try:
        info = audio.audio_info(path)
    except audio.AudioError as error:
        return str(error).removeprefix(f"{path}: ").rstrip("."), ""
    entry = [*state, info.frames, info.sample_rate]
    # The line break comes first, so that a torn last line does not swallow this one.
    return info, f"\n{json.dumps(entry)}"
