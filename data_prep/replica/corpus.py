"""A corpus of composed tracks: `<artist>/<track>.wav`, each with its annotations as JSON.

`corpus.json` says what made it; `tracks.csv`, a manifest with labels, is written last. Each track
depends on the seed and its number alone: the same seed gives the same bytes on any number of
processes, an interrupted corpus is continued, and a longer one begins with a shorter one's tracks.
"""

import json
import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from speechbrain_music.data_prep import manifest
from speechbrain_music.data_prep.replica import GENERATOR, storage
from speechbrain_music.data_prep.replica.compose import compose
from speechbrain_music.data_prep.replica.draws import ARTIST, FIRST, LENGTH, TRACK, keyed
from speechbrain_music.data_prep.replica.genres import GENRES, make_artist
from speechbrain_music.data_prep.replica.mix import mix
from speechbrain_music.data_prep.replica.synth import RATE, load_bank
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.errors import UserError

logger = logging.getLogger(__name__)

LABELS = ("artist", "genre", "tempo", "meter", "key", "arousal", "valence", "generator")


@dataclass(frozen=True)
class CorpusPlan:
    """Which tracks a corpus has; they never end, and genres take turns."""

    seed: int = 0  # another one gives other artists and tracks of the same kind
    shortest: float = 20.0  # seconds of a track, log-uniform up to the longest
    longest: float = 240.0
    per_artist: int = 6  # tracks
    held_out: bool = False  # whether the programs that training corpora never play are played too

    def seconds(self, index):
        """Length of a track, known before it is composed."""
        share = keyed(self.seed, LENGTH, index).random()
        return round(self.shortest * (self.longest / self.shortest) ** share, 3)

    def artist(self, index):
        """Artist of a track."""
        which, number = index % len(GENRES), index // len(GENRES) // self.per_artist
        genre = list(GENRES)[which]
        rng = keyed(self.seed, ARTIST, which, number)
        return make_artist(f"{genre}_{number:03d}", genre, rng, self.held_out)

    def track(self, index):
        """Compose and render a track: its wave (samples,) float32 at 24 kHz, and `Piece.truth`."""
        artist, rng, bank = self.artist(index), keyed(self.seed, TRACK, index, FIRST), load_bank()
        piece = compose(artist, self.seconds(index), rng, bank)
        return mix(piece, artist, rng, bank), piece.truth()

    def names(self, hours):
        """Paths, without extension, of the tracks that make up so many hours."""
        names, total = [], 0.0
        while total < 3600 * hours:
            index = len(names)
            names.append(f"{self.artist(index).name}/{index:05d}")
            total += self.seconds(index)
        return names


def make_corpus(out, hours, plan=None, workers=None):
    """Make a corpus, or continue one, or find it complete; returns its manifest `tracks.csv`.

    It has at least `hours` of the music of a plan, by default `CorpusPlan()`. It starts processes
    (`workers`, by default one per core): a script calls it under `if __name__ == "__main__":`.
    Raises a `UserError` if the folder holds something else, a track cannot be rendered, or the
    sound bank or a package of the extra [replica] is missing.
    """
    out, plan = Path(out), plan or CorpusPlan()
    if not (math.isfinite(hours) and hours > 0):
        raise UserError(f"hours is {hours}; it must be greater than 0.")
    if not 2 <= plan.shortest <= plan.longest < math.inf:
        raise UserError(
            f"tracks of {plan.shortest:g} to {plan.longest:g} seconds cannot be made; give two "
            "lengths of 2 or more, the shorter one first."
        )
    metadata = {"generator": GENERATOR, "sound_bank": load_bank().sha256, **asdict(plan)}
    tracks_csv, names = out / "tracks.csv", plan.names(hours)
    metadata["tracks"] = len(names)
    if storage.claim(out / "corpus.json", metadata, may_change=["tracks"]):
        tracks_csv.unlink(missing_ok=True)  # it lists another number of tracks
    missing = [i for i, name in enumerate(names) if not (out / f"{name}.json").exists()]
    if missing or not tracks_csv.exists():
        jobs = [(str(out / names[index]), plan, index) for index in missing]
        storage.render_all(write_track, jobs, workers)
        rows = [_row(out, name) for name in names]
        write_together({tracks_csv: manifest.manifest_text(rows, LABELS)})
        total = sum(row["duration"] for row in rows) / 3600
        logger.info("%s: %d tracks, %.2f hours", out, len(rows), total)
    return tracks_csv


def write_track(stem, plan, index):
    """Render a plan's track to `stem`.wav; the annotations, written last, mark it complete."""
    wave, truth = plan.track(index)
    storage.write_audio(f"{stem}.wav", wave, RATE)
    write_together({Path(f"{stem}.json"): json.dumps(truth | {"attempt": FIRST}) + "\n"})


def _row(out, name):
    """Manifest row of a track, from its annotations."""
    truth = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
    _, _, tonic, mode = truth["keys"][0]
    row = {"ID": name, "duration": truth["seconds"], "wav": f"{name}.wav"}
    row |= {"start": 0, "stop": round(truth["seconds"] * RATE), "key": f"{tonic} {mode}"}
    row |= {label: truth[label] for label in ("artist", "genre", "meter")}
    row |= {label: round(truth["mood"][label], 4) for label in ("arousal", "valence")}
    return row | {"tempo": round(truth["tempo"], 3), "generator": GENERATOR}
