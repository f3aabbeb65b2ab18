"""Cover songs: `audio/3f0a1b2c4d.flac` at 24 kHz and `covers.csv`, which has the truth.

Of each work there are an original and four versions by other performers, each of another genre,
who play its notes on their instruments, with their balance and sound, to drums of their own (the
same drums would reveal the work). One version changes nothing else (`timbre`), one is transposed,
one is faster or slower, one leaves sections out and plays the others in another order, some of them
again. Each performer plays tracks of several works.
"""

import hashlib
from dataclasses import replace
from functools import lru_cache, partial
from itertools import count, cycle, pairwise
from typing import NamedTuple

import numpy as np

from speechbrain_music.data_prep.data_set import SPLITS
from speechbrain_music.data_prep.manifest import csv_text
from speechbrain_music.data_prep.replica import trees
from speechbrain_music.data_prep.replica.compose import Clock, Part, compose, finish, perform_bar
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
        """The parts of a piece as they are played in the version, and when they end (seconds).

        Music of other sections than the original's is cut after `LONGEST` seconds.
        """
        spans = section_spans(piece)
        if self.sections == tuple(range(1, 1 + len(spans))):
            spans = [(0.0, piece.seconds)]
        else:
            spans = [spans[number - 1] for number in self.sections]
        parts = []
        for part in piece.parts:
            position, played = 0.0, []
            for begin, end in spans:
                end = min(end, begin + LONGEST - position)
                onset = part.notes["start"] + EARLY
                notes = part.notes[(begin <= onset) & (onset < end)]
                notes["start"] = np.maximum(0, notes["start"] - begin + position)
                notes["end"] = np.minimum(notes["end"], end) - begin + position
                played.append(notes)
                position += end - begin
            notes = np.sort(np.concatenate(played))
            for edge in ("start", "end"):
                notes[edge] = self.start + self.time_factor * notes[edge]
            notes["pitch"] += self.semitones * (part.role != "drums")
            parts.append(replace(part, notes=notes))
        return parts, self.start + self.time_factor * position


def section_spans(piece):
    """Start and end of each section; the last ends with a whole bar, and not with the piece."""
    bar = METERS[piece.meter].beats * 60 / piece.tempo
    starts = [start for start, *_ in piece.sections]
    return list(pairwise([*starts, piece.downbeats[-1] + bar]))


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
                number = len(rows) // len(CHANGES)
                amounts = (f"{change.start:.3f}", change.semitones, f"{change.time_factor:.3f}")
                sections = " ".join(map(str, change.sections))
                rows.append((f"W{number:03d}", track, player.name, name, split, *amounts, sections))
                sounds.append((f"audio/{track}.flac", key))
    texts = {"covers.csv": csv_text(sorted(rows, key=lambda row: row[1]), COLUMNS)}
    counts = {split: len(CHANGES) * number for split, number in works.items()}
    render = partial(trees.render_drawn, draw_version)
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
    own = []
    for p in original.parts:
        if p.role != "drums":  # a melody and its solo have two instruments in the version, too
            choice = composer.programs[p.role].index(p.program)
            own.append(replace(p, program=player.programs[p.role][choice]))
    own += _drums(original, composer.swing, player, rng)
    parts, seconds = change.play(replace(original, parts=own))
    seconds += pause
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
        strokes = drummer.bar(rng, False, bar % 4 == 3)
        events += perform_bar(strokes, bar, player, clock, rng)
    drums = Part("drums", DRUMS, np.array(sorted(events), NOTE))
    return finish([drums], piece.seconds, load_bank())


def _draw_artist(seed, part, number):
    genre = list(GENRES)[number % len(GENRES)]
    return trees.draw_artist(genre, seed, part, number, held_out=SPLITS[part] == "test")
