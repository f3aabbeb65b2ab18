"""Output of corpora and replicas: claim a folder, render with a time limit, write audio."""

import io
import json
import os
import sys
from concurrent.futures import as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from speechbrain_music.data_prep.output import read_json
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.errors import UserError

TIME_LIMIT = 120.0  # seconds per track; most take a few
AUDIBLE = 1e-3  # peak


def claim(path, metadata, may_change=()):
    """Write a folder's metadata, or raise a `UserError` if the folder holds something else.

    Returns whether keys of `may_change` differ, which leaves the existing files valid.
    """
    out, differing = path.parent, []
    # Looked at before the file, which another process that begins may write first.
    names = [entry.name.lstrip(".") for entry in out.iterdir()] if out.exists() else []
    others = any(not name.startswith(path.name) for name in names)
    if path.exists():
        found = read_json(path)
        differing = [key for key in metadata if found.get(key) != metadata[key]]
        if not differing:
            return False
        if not set(differing) <= set(may_change):
            raise UserError(
                f"{out} was made with another {', '.join(differing)}; delete it or choose "
                "another folder."
            )
    elif others:
        raise UserError(
            f"{out} is not empty and was not made by this command; choose another folder."
        )
    write_together({path: json.dumps(metadata, indent=2) + "\n"})
    return bool(differing)


def render_all(work, jobs, workers=None, seconds=TIME_LIMIT):
    """Run `work(*job)` for every job in processes, with a progress bar.

    A process that needs more than `seconds` for a job is ended, even inside a native loop. Raises
    what a job raises, and a `UserError` for one that hung or whose process died.
    """
    if workers is not None and workers < 1:
        raise UserError(f"workers is {workers}; it must be 1 or more.")
    if not jobs:
        return
    from pebble import ProcessExpired, ProcessPool  # in the extra [replica]

    workers = min(workers or len(os.sched_getaffinity(0)), len(jobs))
    # Not forked: this process may hold threads and a GPU.
    pool = ProcessPool(workers, context=get_context("spawn"))
    quiet = 0.1 if sys.stderr.isatty() else 30  # seconds between lines of a log
    bar = {"total": len(jobs), "desc": "Composing and rendering", "unit": "track"}
    try:
        futures = [pool.schedule(work, job, timeout=seconds) for job in jobs]
        for future in tqdm(as_completed(futures), **bar, mininterval=quiet):
            future.result()
        pool.close()
    except BaseException as error:
        pool.stop()
        if not isinstance(error, (TimeoutError, ProcessExpired)):
            raise
        raise UserError(
            f"a track took more than {seconds:g} s or its process died ({error}); run the same "
            "command again, with fewer workers if memory is short."
        ) from error
    finally:
        pool.join()


def write_audio(path, wave, rate):
    """Write a wave (samples,) or (samples, channels) atomically, in the suffix's format, 16 bit.

    Raises a `UserError` for silence.
    """
    if np.abs(wave).max() <= AUDIBLE:
        raise UserError(f"{path} is silent; use another sound bank or another seed.")
    encoded = io.BytesIO()  # soundfile hides why a file cannot be written
    soundfile.write(encoded, wave, rate, format=Path(path).suffix[1:])
    write_together({path: encoded.getvalue()})
