"""GuitarSet: `audio_mono-mic/00_BN1-129-Eb_comp_mic.wav`, 44.1 kHz, and a JAMS each.

Six players on acoustic guitars accompany (`comp`: bass and chords) or add a melody (`solo`) to the
same songs in five styles. Performed chords are what sounds, instructed ones have no bass note.
"""

import json
from dataclasses import replace
from functools import partial
from itertools import product

from speechbrain_music.data_prep.data_set import ALL
from speechbrain_music.data_prep.frames import FOLDS
from speechbrain_music.data_prep.replica import trees
from speechbrain_music.data_prep.replica.draws import PIECE, PLAN, keyed
from speechbrain_music.data_prep.replica.expression import perform
from speechbrain_music.data_prep.replica.synth import load_bank
from speechbrain_music.data_prep.replica.theory import TONICS

STYLES = {"BN": "jazz", "Funk": "disco", "Jazz": "jazz", "Rock": "rock", "SS": "country"}
PLAYERS = FOLDS["guitarset"]
PROGRAMS = (24, 25)  # with strings of nylon and of steel
TEMPI = (70, 100), (130, 170)  # each song is played slowly and fast
SHORTEST, LONGEST = 18.0, 36.0  # seconds
ROLES = {"comp": ("bass", "comp"), "solo": ("bass", "comp", "melody")}


def plan(scale, seed):
    """The tree at a share of the published excerpts; one per player or more."""
    texts, sounds = {}, []
    counts = trees.published("guitarset", scale, PLAYERS)
    for index in range(counts[ALL]):
        key = (seed, *divmod(index, PLAYERS))
        _, piece, _, name = draw_excerpt(*key)
        texts[f"annotation/{name}.jams"] = _jams(piece)
        sounds.append((f"audio_mono-mic/{name}_mic.wav", key))
    render = partial(trees.render_drawn, draw_excerpt)
    return trees.Tree({"published": counts}, texts, sounds, render, 44100)


def draw_excerpt(seed, number, player):
    """One of a player's 60 excerpts: guitarist, piece, generator as of `draw_song`; its name."""
    tempi, song, style, kind = list(product(TEMPI, (1, 2, 3), STYLES, ROLES))[number]
    rng = keyed(seed, PLAN, number // len(ROLES))  # all players play the same songs
    tonic, artist = int(rng.integers(12)), trees.draw_artist(STYLES[style], seed, player)
    artist.tempo, artist.tempo_spread = rng.uniform(*tempi), 0.0
    artist.programs = dict.fromkeys(artist.programs, (PROGRAMS[player % 2],) * 2)
    rng = keyed(seed, PIECE, player, number)
    seconds = round(rng.uniform(SHORTEST, LONGEST), 2)
    piece = perform(artist, seconds, rng, load_bank(), tonic, breaks=False)
    piece = replace(piece, parts=[part for part in piece.parts if part.role in ROLES[kind]])
    for part in piece.parts:
        part.notes["pitch"] += 12 * (part.role == "bass")  # a guitar's range begins an octave up
    name = f"{player:02d}_{style}{song}-{piece.tempo:.0f}-{TONICS[tonic]}_{kind}"
    return artist, piece, rng, name


def _jams(piece):
    """The JAMS of an excerpt: beats, and instructed and performed chords."""
    size = max(position for _, position, _ in piece.positions())
    beats = [
        (time, 0.0, {"position": n, "measure": bar, "num_beats": size, "beat_units": 4})
        for time, n, bar in piece.positions()
    ]
    performed = [(start, end - start, name) for start, end, name in piece.chords]
    instructed = [(*span, name.partition("/")[0]) for *span, name in performed]
    found = [("beat_position", beats), ("chord", instructed), ("chord", performed)]
    jams = {"annotations": [], "file_metadata": {"duration": piece.seconds}, "sandbox": {}}
    for namespace, rows in found:
        names = ("time", "duration", "value", "confidence")
        data = [dict(zip(names, (*row, None), strict=True)) for row in rows]
        annotation = {"namespace": namespace, "data": data, "annotation_metadata": {}}
        jams["annotations"].append(annotation | {"sandbox": {}})
    return json.dumps(jams) + "\n"
