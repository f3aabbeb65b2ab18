"""GuitarSet: `audio_mono-mic/00_BN1-129-Eb_comp_mic.wav`, 44.1 kHz, and a JAMS each.

Six players on acoustic guitars accompany (`comp`: bass and chords) or add a melody (`solo`) to the
same songs in five styles. Performed chords are what sounds, instructed ones have no bass note.
"""

import json
from dataclasses import replace

from speechbrain_music.data_prep.data_set import ALL
from speechbrain_music.data_prep.guitarset import GUITARSET, PLAYERS
from speechbrain_music.data_prep.replica.draws import PIECE, PLAN, keyed
from speechbrain_music.data_prep.replica.expression import perform
from speechbrain_music.data_prep.replica.synth import load_bank
from speechbrain_music.data_prep.replica.theory import TONICS
from speechbrain_music.data_prep.replica.trees import Tree, draw_artist, mix_song, scaled

STYLES = {"BN": "jazz", "Funk": "disco", "Jazz": "jazz", "Rock": "rock", "SS": "country"}
PROGRAMS = (24, 25)  # with strings of nylon and of steel
TEMPI = (70, 110), (120, 170)  # each song is played slowly and fast
SHORTEST, LONGEST = 18.0, 36.0  # seconds
ROLES = {"comp": ("bass", "comp"), "solo": ("bass", "comp", "melody")}


def plan(scale, seed):
    """The tree at a share of the published excerpts; one per player or more."""
    texts, sounds = {}, []
    count = scaled(GUITARSET.counts["published"], scale, PLAYERS)[ALL]
    for number in range(count):
        key = (seed, number % PLAYERS, *_song(seed, number // PLAYERS))
        _, player, style, which, tempo, tonic, kind = key
        name = f"{player:02d}_{style}{which}-{tempo}-{TONICS[tonic]}_{kind}"
        texts[f"annotation/{name}.jams"] = _jams(name, draw_excerpt(*key)[1])
        sounds.append((f"audio_mono-mic/{name}_mic.wav", key))
    counts = {"published": {ALL: count}}
    return Tree(counts, texts, sounds, render, 44100, folders=("audio_mono-mic",))


def _song(seed, index):
    """Style, number in the style, tempo, tonic, and kind of each of the 60 excerpts of a player."""
    index, solo = divmod(index, 2)
    rng, (fast, song) = keyed(seed, PLAN, index), divmod(index, 3 * len(STYLES))
    tempo, tonic = int(rng.integers(*TEMPI[fast])), int(rng.integers(12))
    which, style = divmod(song, len(STYLES))
    return list(STYLES)[style], which + 1, tempo, tonic, list(ROLES)[solo]


def draw_excerpt(seed, player, style, which, tempo, tonic, kind):
    """Guitarist, `Piece` and random generator of an excerpt, see `draw_song`."""
    number = list(STYLES).index(style)
    artist = draw_artist(STYLES[style], seed, player, number)
    artist.tempo, artist.tempo_spread = tempo, 0.0
    artist.programs = dict.fromkeys(artist.programs, (PROGRAMS[player % 2],) * 2)
    rng = keyed(seed, PIECE, player, number, which, tempo, list(ROLES).index(kind))
    seconds = round(rng.uniform(SHORTEST, LONGEST), 2)
    piece = perform(artist, seconds, rng, load_bank(), tonic, breaks=False)
    for part in piece.parts:
        part.notes["pitch"] += 12 * (part.role == "bass")  # a guitar's range begins an octave up
    return artist, replace(piece, parts=[p for p in piece.parts if p.role in ROLES[kind]]), rng


def render(attempt, *key):
    """Render an excerpt; every attempt gives the one that was annotated."""
    return mix_song(*draw_excerpt(*key))


def _jams(name, piece):
    """The JAMS of an excerpt: beats, chords (instructed, performed), key and tempo."""
    beats, measure = [], 0
    size = max(position for _, position in piece.positions())
    for time, position in piece.positions():
        measure += position == 1
        place = {"position": position, "measure": measure, "num_beats": size, "beat_units": 4}
        beats.append((time, 0.0, place))
    performed = [(start, end - start, name) for start, end, name in piece.chords]
    instructed = [(*span, name.partition("/")[0]) for *span, name in performed]
    (start, end, tonic, mode), *_ = piece.keys
    found = [("beat_position", beats), ("chord", instructed), ("chord", performed)]
    found.append(("key_mode", [(0.0, piece.seconds, f"{tonic}:{mode}")]))
    found.append(("tempo", [(0.0, piece.seconds, piece.tempo)]))
    names = ("time", "duration", "value", "confidence")
    annotations = [
        {
            "namespace": namespace,
            "data": [dict(zip(names, (*row, None), strict=True)) for row in rows],
            "annotation_metadata": {"data_source": "composed"},
            "sandbox": {},
            "time": 0.0,
            "duration": piece.seconds,
        }
        for namespace, rows in found
    ]
    metadata = {"title": name, "duration": piece.seconds, "jams_version": "0.3.1"}
    return json.dumps({"annotations": annotations, "file_metadata": metadata, "sandbox": {}}) + "\n"
