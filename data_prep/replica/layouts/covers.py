"""Cover songs: `audio/3f0a1b2c4d.flac` at 24 kHz and `covers.csv`, which has the truth.

Of each work there are an original and four versions by other performers, each of another genre,
who play its notes on their instruments, with their balance and sound, to drums of their own (the
same drums would reveal the work). One version changes nothing else (`timbre`), one is transposed,
one is faster or slower, one leaves sections out and plays the others in another order, some of them
again. Each performer plays tracks of several works.
"""

import hashlib
from dataclasses import replace
from functools import lru_cache
from itertools import count, cycle, pairwise
from typing import NamedTuple

import numpy as np

from speechbrain_music.data_prep.data_set import SPLITS
from speechbrain_music.data_prep.manifest import csv_text
from speechbrain_music.data_prep.replica import trees
from speechbrain_music.data_prep.replica.compose import Clock, Part, compose, finish
from speechbrain_music.data_prep.replica.draws import PIECE, PLAN, keyed
from speechbrain_music.data_prep.replica.genres import GENRES
from speechbrain_music.data_prep.replica.players import METERS, Drummer
from speechbrain_music.data_prep.replica.synth import DRUMS, NOTE, RATE, load_bank

WORKS = {"train": 96, "valid": 24}  # at scale 1; as many again test
CHANGES = ("original", "timbre", "key", "tempo", "form")
SHORTEST, LONGEST = 25.0, 35.0  # seconds of music
PAUSE = (0.1, 2.4)  # seconds of silence before and after it, so that the length tells little
SLOWER, FASTER = (1.1, 1.35), (0.72, 0.9)  # factors on times
EARLY = 0.04  # seconds; a note may begin so much before the section that it belongs to
COLUMNS = ("work", "track", "artist", "change", "split")
COLUMNS += ("start", "semitones", "time_factor", "sections")


class Change(NamedTuple):
    """What a version does to the times and pitches of its original.

    `start` is where its music begins, in seconds; `sections` are the numbers of the original's
    sections, from 1 on, in the order in which they are played.
    """

    start: float
    semitones: int
    time_factor: float
    sections: tuple

    def play(self, piece):
        """The parts of a piece as they are played in the version, and when they end (seconds)."""
        parts, seconds = piece.parts, piece.seconds
        if self.sections != tuple(range(1, 1 + len(piece.sections))):
            parts, seconds = rearrange(piece, self.sections)
        played = []
        for part in parts:
            notes = part.notes.copy()
            for edge in ("start", "end"):
                notes[edge] = self.start + self.time_factor * notes[edge]
            notes["pitch"] += self.semitones * (part.role != "drums")
            played.append(replace(part, notes=notes))
        return played, self.start + self.time_factor * seconds


def section_spans(piece):
    """Start and end of each section; the last ends with a whole bar, and not with the piece."""
    bar = METERS[piece.meter].beats * 60 / piece.tempo
    starts = [start for start, *_ in piece.sections]
    return list(pairwise([*starts, piece.downbeats[-1] + bar]))


def rearrange(piece, numbers):
    """The parts of a piece whose sections are played in another order, and its length.

    `numbers` are those of the sections, from 1 on; the music is cut after `LONGEST` seconds.
    """
    spans, position, events = section_spans(piece), 0.0, [[] for _ in piece.parts]
    for begin, end in (spans[number - 1] for number in numbers):
        for part, played in zip(piece.parts, events, strict=True):
            onset = part.notes["start"] + EARLY
            notes = part.notes[(begin <= onset) & (onset < end)]
            notes["start"] = np.maximum(0, notes["start"] - begin + position)
            notes["end"] = np.minimum(notes["end"], end) - begin + position
            played.append(notes)
        position += end - begin
    seconds, parts = min(position, LONGEST), []
    for part, played in zip(piece.parts, events, strict=True):
        notes = np.sort(np.concatenate(played))
        notes = notes[notes["start"] < seconds - EARLY]
        notes["end"] = np.minimum(notes["end"], seconds)
        parts.append(replace(part, notes=notes))
    return parts, seconds


def plan(scale, seed):
    """The tree at a share of 240 works; two works per split or more, half of all to test."""
    works = trees.scaled(WORKS, scale, least=2)
    works["test"] = sum(works.values())
    rows, sounds = [], []
    for part, split in enumerate(SPLITS):
        performers = len(CHANGES) * max(1, works[split] // len(CHANGES))
        for work in range(works[split]):
            for which, name in enumerate(CHANGES):
                key = (seed, part, work, work % performers, (work + which) % performers, which)
                track = hashlib.sha1(str(key).encode()).hexdigest()[:10]  # tells nothing
                player, _, _, change = draw_version(*key)
                number = sum(works[before] for before in SPLITS[:part]) + work
                amounts = (f"{change.start:.3f}", change.semitones, f"{change.time_factor:.3f}")
                sections = " ".join(map(str, change.sections))
                rows.append((f"W{number:03d}", track, player.name, name, split, *amounts, sections))
                sounds.append((f"audio/{track}.flac", key))
    texts = {"covers.csv": csv_text(sorted(rows, key=lambda row: row[1]), COLUMNS)}
    counts = {split: len(CHANGES) * number for split, number in works.items()}
    return trees.Tree({"published": counts}, texts, sounds, render, RATE)


def draw_version(seed, part, work, author, performer, which):
    """A version: its performer, the `Piece`, the generator for its mix, and its `Change`.

    `part` is the number of the split, `author` and `performer` those of two of its artists, `which`
    an index of `CHANGES`. The piece's annotations, other than its notes, are the original's.
    """
    composer, original, changes = draw_original(seed, part, work, author)
    player = _draw_artist(seed, part, performer)
    rng = keyed(seed, PLAN, part, work, 1 + which)  # 0 is the original's
    start, pause = rng.uniform(*PAUSE, 2).tolist()
    change = Change(start, 0, 1.0, tuple(range(1, 1 + len(original.sections))))
    change = change._replace(**changes.get(CHANGES[which], {}))
    own = [part for part in original.parts if part.role != "drums"]
    own += _drums(original, composer.swing, player, rng)
    parts, seconds = change.play(replace(original, parts=own))
    seconds += pause
    # A melody and its solo have two instruments in the version, too.
    programs = {("drums", DRUMS): DRUMS}
    for role, own in composer.programs.items():
        programs |= {(role, old): new for old, new in zip(own, player.programs[role], strict=True)}
    parts = [replace(p, program=programs[p.role, p.program]) for p in parts]
    parts = finish(parts, seconds, load_bank())
    return player, replace(original, artist=player.name, seconds=seconds, parts=parts), rng, change


@lru_cache(maxsize=1)  # the versions of a work are planned one after the other
def draw_original(seed, part, work, author):
    """A work's author, the `Piece`, and of some of `CHANGES` what they change."""
    rng = keyed(seed, PLAN, part, work)
    semitones = int(rng.choice((-1, 1)) * rng.integers(1, 7))
    factor = float(rng.uniform(*(SLOWER if rng.random() < 0.5 else FASTER)))
    seconds = rng.uniform(SHORTEST / min(1, factor), LONGEST / max(1, factor))
    composer = _draw_artist(seed, part, author)
    for attempt in count():
        piece = compose(composer, seconds, keyed(seed, PIECE, part, work, attempt), load_bank())
        if len(piece.sections) > 2:
            break
        composer.tempo += 10  # faster, so that the piece has more bars
    sections = len(piece.sections)
    order = (1 + rng.permutation(sections)[rng.integers(1, max(2, sections // 2)) :]).tolist()
    if order == sorted(order):
        order.reverse()
    lengths, again = [end - begin for begin, end in section_spans(piece)], cycle(tuple(order))
    while sum(lengths[number - 1] for number in order) < SHORTEST:
        order.append(next(again))
    changes = {"key": {"semitones": semitones}, "tempo": {"time_factor": factor}}
    return composer, piece, changes | {"form": {"sections": tuple(order)}}


def _drums(piece, swing, player, rng):
    """The drums that a performer adds to a piece: no part if its genre has none."""
    if rng.random() >= GENRES[player.genre].drums:
        return []
    meter, events = METERS[piece.meter], []
    clock = Clock(piece.tempo, meter, swing, piece.downbeats[0])
    drummer = Drummer(player.ways["beats"], meter, rng)
    for bar in range(len(piece.downbeats)):
        for step, length, pitch, velocity in drummer.bar(rng, False, bar % 4 == 3):
            begin, end = (float(clock(bar * meter.bar + s)) for s in (step, step + length))
            late = player.tightness * rng.standard_normal()
            loud = int(np.clip(velocity + 4 * rng.standard_normal(), 20, 127))
            events.append((max(0.0, begin + late), end + late, pitch, loud))
    notes = np.array(sorted(events), NOTE)
    notes = notes[notes["start"] < piece.seconds - EARLY]
    notes["end"] = np.minimum(notes["end"], piece.seconds)
    return [Part("drums", DRUMS, notes)]


def _draw_artist(seed, part, number):
    genre = list(GENRES)[number % len(GENRES)]
    return trees.draw_artist(genre, seed, part, number, held_out=SPLITS[part] == "test")


def render(*key):
    """Render a version."""
    return trees.mix_song(*draw_version(*key)[:3])
