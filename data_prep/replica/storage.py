"""Output of corpora and replicas: claim a folder, render with a time limit, write audio."""

import io
import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from speechbrain_music.data_prep.replica.timeouts import run_with_timeouts
from speechbrain_music.utils.atomic import atomic_file, write_together
from speechbrain_music.utils.errors import UserError

TIME_LIMIT = 120.0  # seconds per track; most take a few
ATTEMPTS = 3
AUDIBLE = 1e-3  # peak


class CorpusError(UserError):
    """A corpus or replica that cannot be made; the message is one sentence with the remedy."""


def claim(path, metadata, may_change=()):
    """Write a folder's metadata, or raise a `CorpusError` if the folder holds something else.

    Returns whether keys of `may_change` differ, which leaves the existing files valid.
    """
    out, differing = path.parent, []
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            differing = [key for key in metadata if found.get(key) != metadata[key]]
        except (ValueError, AttributeError):
            differing = [f"{path.name}, which is damaged"]
        if not differing:
            return False
        if not set(differing) <= set(may_change):
            raise CorpusError(
                f"{out} was made with another {', '.join(differing)}; delete it or choose "
                "another folder."
            )
    elif out.exists() and any(out.iterdir()):
        raise CorpusError(
            f"{out} is not empty and was not made by this command; choose another folder."
        )
    write_together({path: json.dumps(metadata, indent=2) + "\n"})
    return bool(differing)


@contextmanager
def writing_to(out):
    """Turn an OSError into a CorpusError that names the folder and the remedy."""
    try:
        yield
    except OSError as error:
        raise CorpusError(
            f"{out} cannot be written ({error.strerror}); choose another folder or make room "
            "there, the same command continues."
        ) from error


def render_all(work, jobs, workers):
    """Run `work(attempt, *job)` for every job in processes with a time limit."""
    run_with_timeouts(work, jobs, TIME_LIMIT, ATTEMPTS, workers, "Composing and rendering")


def render_audible(render, attempt, message):
    """Call `render(number)` from `attempt` on until the wave is not silent.

    Returns what `render` returned (a wave, or a tuple that begins with one), and the number.
    """
    for number in range(attempt, attempt + ATTEMPTS):
        result = render(number)
        wave = result[0] if isinstance(result, tuple) else result
        if np.abs(wave).max() > AUDIBLE:
            return result, number
    raise CorpusError(message)


def write_audio(path, wave, rate):
    """Write a wave (samples,) or (samples, channels) atomically, in the suffix's format, 16 bit."""
    encoded = io.BytesIO()  # soundfile hides why a file cannot be written
    kind = Path(path).suffix[1:].upper()
    subtype = "MPEG_LAYER_III" if kind == "MP3" else "PCM_16"
    soundfile.write(encoded, wave, rate, format=kind, subtype=subtype)
    with atomic_file(path, "wb") as file:
        file.write(encoded.getvalue())
