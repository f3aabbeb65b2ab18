"""A corpus of composed tracks on disk: `<artist>/<track>.wav`, beside each its truth as JSON.

`corpus.json` says what made it and `tracks.csv`, a manifest with labels, appears when all is
there. Each track depends on the seed and its number alone, so the same seed gives the same bytes
on any number of processes, a corpus that was interrupted is continued, and a longer one begins
with the tracks of a shorter one.
"""

import ast
import hashlib
import io
import json
import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile

from speechbrain_music.data_prep import manifest
from speechbrain_music.data_prep.replica.compose import compose
from speechbrain_music.data_prep.replica.genres import GENRES, make_artist
from speechbrain_music.data_prep.replica.mix import mix
from speechbrain_music.data_prep.replica.mortal import run_all
from speechbrain_music.data_prep.replica.synth import RATE, load_bank
from speechbrain_music.utils.atomic import atomic_file, write_together
from speechbrain_music.utils.errors import UserError

logger = logging.getLogger(__name__)

VERSION = 1
SOURCES = ("theory", "genres", "players", "compose", "mix", "synth", "corpus")
DOCUMENTED = ast.Module, ast.ClassDef, ast.FunctionDef
PATIENCE = 120.0  # seconds for a track, which takes a few
ATTEMPTS = 3
AUDIBLE = 1e-3  # peak
LABELS = ("artist", "genre", "tempo", "meter", "key", "arousal", "valence", "generator")
ARTIST, TRACK, LENGTH = range(3)  # streams of random numbers


class CorpusError(UserError):
    """A corpus that cannot be made. The message is one sentence with the remedy.

    Example
    -------
    >>> try:
    ...     make_corpus("nowhere", hours=0)
    ... except CorpusError as error:
    ...     print(error)
    hours is 0; it must be greater than 0.
    """


def generator_id(*more):
    """Version and hash of what composes and renders: another one makes other tracks.

    What is written for readers, docstrings and comments, is not hashed.

    Arguments
    ---------
    more : str
        Further sources that a replica is made by.

    Returns
    -------
    str

    Example
    -------
    >>> generator_id().startswith("1-"), generator_id() == generator_id("notes")
    (True, False)
    """
    folder = Path(__file__).parent
    digest = hashlib.sha256((folder / "bank.json").read_bytes())
    for source in SOURCES + more:
        digest.update(code_of((folder / f"{source}.py").read_text(encoding="utf-8")).encode())
    return f"{VERSION}-{digest.hexdigest()[:12]}"


def code_of(source):
    """A Python source without docstrings, lines of comment and empty lines.

    Arguments
    ---------
    source : str

    Returns
    -------
    str

    Example
    -------
    >>> code_of("'What it is.'\\n\\n# Why.\\nx = 1\\n")
    'x = 1'
    """
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node):
            first, last = node.body[0].lineno - 1, node.body[0].end_lineno
            lines[first:last] = [""] * (last - first)
    return "\n".join(line for line in lines if line.strip() and line.strip()[0] != "#")


def keyed(*key):
    """A generator of random numbers that depends on whole numbers alone.

    Arguments
    ---------
    key : int
        0 or more each, in their order.

    Returns
    -------
    numpy.random.Generator

    Example
    -------
    >>> keyed(0, 7).random() == keyed(0, 7).random(), keyed(0, 7).random() == keyed(7, 0).random()
    (True, False)
    """
    return np.random.default_rng([VERSION, *key])


@dataclass(frozen=True)
class CorpusPlan:
    """Which tracks a corpus has, without end; genres take turns.

    Arguments
    ---------
    seed : int
        Another seed gives other artists and tracks of the same kind.
    shortest, longest : float
        Seconds of a track, log-uniform between.
    per_artist : int
        Tracks of an artist.
    held_out : bool
        Whether the programs that training corpora never play are played too.
    soundfont : str, optional
        A sound bank other than TimGM6mb.

    Example
    -------
    >>> wave, truth = CorpusPlan(seed=0, longest=30.0).track(3)
    >>> truth["genre"], len(wave) == round(truth["seconds"] * RATE)
    ('disco', True)
    """

    seed: int = 0
    shortest: float = 20.0
    longest: float = 240.0
    per_artist: int = 6
    held_out: bool = False
    soundfont: str = None

    def seconds(self, index):
        """Length of a track, known before it is composed."""
        share = keyed(self.seed, LENGTH, index).random()
        return round(self.shortest * (self.longest / self.shortest) ** share, 3)

    def artist(self, index):
        """Who plays a track."""
        which, number = index % len(GENRES), index // len(GENRES) // self.per_artist
        genre = list(GENRES)[which]
        rng = keyed(self.seed, ARTIST, which, number)
        return make_artist(f"{genre}_{number:03d}", genre, rng, self.held_out)

    def track(self, index, attempt=0):
        """Composes and renders a track; another attempt gives another one.

        Returns
        -------
        wave : numpy.ndarray
            (samples,) float32 at 24 kHz.
        truth : dict
            `Piece.truth`.
        """
        bank = load_bank(self.soundfont)
        artist, rng = self.artist(index), keyed(self.seed, TRACK, index, attempt)
        piece = compose(artist, self.seconds(index), rng, bank)
        return mix(piece, artist, rng, bank), piece.truth()

    def places(self, hours):
        """Paths, without extension, of the tracks that make up so many hours."""
        places, total = [], 0.0
        while total < 3600 * hours:
            index = len(places)
            places.append(f"{self.artist(index).name}/{index:05d}")
            total += self.seconds(index)
        return places


def make_corpus(out, hours, plan=None, workers=None):
    """Makes a corpus, or continues one, or finds it complete.

    It starts processes: a script calls it under `if __name__ == "__main__":`.

    Arguments
    ---------
    out : str | Path
        Its folder.
    hours : float
        Of music, at least.
    plan : CorpusPlan, optional
        Which tracks.
    workers : int, optional
        Processes; None takes one a core.

    Returns
    -------
    Path
        The manifest `tracks.csv`.

    Raises
    ------
    CorpusError
        If the folder holds something else, cannot be written, or a track cannot be rendered.
    BankError
        If the sound bank or a package of the extra [replica] is missing.

    Example
    -------
    >>> folder = getfixture("tmp_path") / "corpus"
    >>> path = make_corpus(folder, 0.001, CorpusPlan(shortest=2.0, longest=4.0), workers=1)
    >>> len(manifest.read_manifest(path, folder)) > 0
    True
    """
    out, plan = Path(out), plan or CorpusPlan()
    if not (math.isfinite(hours) and hours > 0):
        raise CorpusError(f"hours is {hours}; it must be greater than 0.")
    if not 2 <= plan.shortest <= plan.longest < math.inf:
        raise CorpusError(
            f"tracks of {plan.shortest:g} to {plan.longest:g} seconds cannot be made; give two "
            "lengths of 2 or more, the shorter one first."
        )
    facts = {"generator": generator_id(), "sound_bank": load_bank(plan.soundfont).sha256}
    facts |= {name: value for name, value in asdict(plan).items() if name != "soundfont"}
    tracks_csv, places = out / "tracks.csv", plan.places(hours)
    try:
        if claim(out / "corpus.json", facts | {"tracks": len(places)}, grows=["tracks"]):
            tracks_csv.unlink(missing_ok=True)  # what follows is longer or shorter
        missing = [i for i, place in enumerate(places) if not (out / f"{place}.json").exists()]
        if missing or not tracks_csv.exists():
            jobs = [(str(out / places[index]), plan, index) for index in missing]
            run_all(write_track, jobs, PATIENCE, ATTEMPTS, workers, "Composing and rendering")
            rows = [_row(out, place, facts["generator"]) for place in places]
            manifest.write_manifest(tracks_csv, rows, LABELS)
            total = sum(row["duration"] for row in rows) / 3600
            logger.info("%s: %d tracks, %.2f hours", out, len(rows), total)
    except OSError as error:
        raise CorpusError(
            f"{out} cannot be written ({error.strerror}); choose another folder or make room "
            "there, the same command continues."
        ) from error
    return tracks_csv


def claim(path, facts, grows=()):
    """Writes what a folder will hold, or checks that it is what was begun there.

    Arguments
    ---------
    path : Path
        A JSON file, the first in its folder.
    facts : dict
        What makes the folder's content.
    grows : sequence of str
        Facts that may change: what is there remains valid.

    Returns
    -------
    bool
        Whether one of those changed.

    Raises
    ------
    CorpusError
        If the folder holds something else.

    Example
    -------
    >>> path = getfixture("tmp_path") / "corpus" / "corpus.json"
    >>> claim(path, {"seed": 0, "tracks": 3}, grows=["tracks"])  # a new folder
    False
    >>> claim(path, {"seed": 0, "tracks": 5}, grows=["tracks"])  # it goes on
    True
    >>> try:
    ...     claim(path, {"seed": 1, "tracks": 5}, grows=["tracks"])
    ... except CorpusError as error:
    ...     print(str(error).removeprefix(f"{path.parent} "))
    was made with another seed; delete it or choose another folder.
    """
    out, differing = path.parent, []
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            differing = [key for key in facts if found.get(key) != facts[key]]
        except (ValueError, AttributeError):
            differing = [f"{path.name}, which is damaged"]
        if not differing:
            return False
        if not set(differing) <= set(grows):
            raise CorpusError(
                f"{out} was made with another {', '.join(differing)}; delete it or choose "
                "another folder."
            )
    elif out.exists() and any(out.iterdir()):
        raise CorpusError(
            f"{out} is not empty and was not made by this command; choose another folder."
        )
    write_together({path: json.dumps(facts, indent=2) + "\n"})
    return bool(differing)


def write_track(attempt, stem, plan, index):
    """Makes a track and writes it, the truth last: where that is, the track is whole.

    Arguments
    ---------
    attempt : int
        The first to be made; while one is silent the next is, `ATTEMPTS` at most.
    stem : str
        Path without extension.
    plan : CorpusPlan
        What the track is one of.
    index : int
        Which.

    Raises
    ------
    CorpusError
        If all attempts are silent.
    OSError
        If the files cannot be written.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> write_track(0, str(folder / "00003"), CorpusPlan(shortest=1.0, longest=1.0), 3)
    >>> sorted(path.name for path in folder.iterdir())
    ['00003.json', '00003.wav']
    >>> truth = json.loads((folder / "00003.json").read_text())
    >>> truth["genre"], truth["seconds"], soundfile.info(folder / "00003.wav").duration
    ('disco', 1.0, 1.0)
    """
    for again in range(attempt, attempt + ATTEMPTS):
        wave, truth = plan.track(index, again)
        if np.abs(wave).max() > AUDIBLE:
            break
    else:
        raise CorpusError(f"track {index} is silent; use another --soundfont.")
    write_audio(f"{stem}.wav", wave, RATE)
    write_together({Path(f"{stem}.json"): json.dumps(truth | {"attempt": again}) + "\n"})


def write_audio(path, wave, rate):
    """Writes a wave (samples,) or (samples, channels) atomically: 16 bit, or as the name ends.

    Arguments
    ---------
    path : str | Path
        Ends with what soundfile can write: `.wav`, `.flac`, `.mp3`; its folder is made if missing.
    wave : numpy.ndarray
        Within +-1.
    rate : int
        Hz.

    Raises
    ------
    OSError
        If the file cannot be written.

    Example
    -------
    >>> path = getfixture("tmp_path") / "artist" / "a.wav"
    >>> write_audio(path, np.zeros((12000, 2), np.float32), 24000)
    >>> info = soundfile.info(path)
    >>> info.channels, info.duration, info.subtype
    (2, 0.5, 'PCM_16')
    """
    encoded = io.BytesIO()  # soundfile hides why a file cannot be written
    kind = Path(path).suffix[1:].upper()
    subtype = "MPEG_LAYER_III" if kind == "MP3" else "PCM_16"
    soundfile.write(encoded, wave, rate, format=kind, subtype=subtype)
    with atomic_file(path, "wb") as file:
        file.write(encoded.getvalue())


def _row(out, place, generator):
    truth = json.loads((out / f"{place}.json").read_text(encoding="utf-8"))
    _, _, tonic, mode = truth["keys"][0]
    labels = {"artist": truth["artist"], "genre": truth["genre"], "meter": truth["meter"]}
    labels |= {"tempo": round(truth["tempo"], 3), "key": f"{tonic} {mode}"}
    labels |= {name: round(truth["mood"][name], 4) for name in ("arousal", "valence")}
    return labels | {
        "ID": place,
        "duration": truth["seconds"],
        "wav": f"{place}.wav",
        "start": 0,
        "stop": round(truth["seconds"] * RATE),
        "generator": generator,
    }
