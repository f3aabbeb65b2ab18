"""Compose a piece from a random generator: form, harmony, parts, and its annotations."""

import math
from dataclasses import dataclass
from itertools import accumulate, cycle, groupby, islice, pairwise

import numpy as np

from speechbrain_music.data_prep.replica.draws import choose, read_yaml
from speechbrain_music.data_prep.replica.genres import GENRES
from speechbrain_music.data_prep.replica.players import METERS, Bassist, Comper, Drummer, Soloist
from speechbrain_music.data_prep.replica.synth import DRUMS, NOTE
from speechbrain_music.data_prep.replica.theory import MODES, SCALES, TONICS, Chord, phrase

SLOWEST, FASTEST = 60.0, 180.0  # beats per minute
SECTIONS = read_yaml("theory.yaml")["sections"]
CENTERS = {"comp": 62, "pad": 60, "melody": 72}


@dataclass(frozen=True)
class Part:
    """Notes (dtype `NOTE`) of one instrument, with its role and General MIDI program."""

    role: str
    program: int
    notes: np.ndarray


@dataclass(frozen=True)
class Piece:
    """A piece and its annotations; times in seconds."""

    genre: str
    artist: str
    seconds: float
    tempo: float  # beats per minute, of dotted quarters in 6/8
    meter: str  # a key of `METERS`
    keys: list  # spans from the first beat to the end: start, end, tonic, mode
    chords: list  # spans: start, end, name; so are the sections
    sections: list
    beats: list  # their times
    downbeats: list
    mood: dict  # `arousal` and `valence` in -1 to 1, and their ingredients
    parts: list  # all instruments, each a `Part`

    def positions(self):
        """(time, position in the bar, bar) of each beat, from 1 on; a pick-up is in bar 1."""
        size, first = METERS[self.meter].beats, self.beats.index(self.downbeats[0])
        places = (divmod(n - first, size) for n in range(len(self.beats)))
        numbers = ((place + 1, bar + 1 + (first > 0)) for bar, place in places)
        return [(time, *number) for time, number in zip(self.beats, numbers, strict=True)]

    def truth(self):
        """All of it as values that JSON can hold."""
        truth = dict(vars(self))
        instruments = [dict(vars(part)) for part in truth.pop("parts")]
        for part in instruments:
            notes = part["notes"].tolist()
            part["notes"] = [[round(start, 4), round(end, 4), *how] for start, end, *how in notes]
        return truth | {"instruments": instruments}


class Clock:
    """Convert sixteenths to seconds; with swing, off-beats come late."""

    pick_up = 0  # the beat of the first bar at which the music starts: nothing is before it
    played = None  # a monotone map: seconds of the score, of the performance

    def __init__(self, tempo, meter, swing, lead):
        self.beat, self.steps, self.bar, self.lead = 60.0 / tempo, meter.steps, meter.bar, lead
        self.swing = swing if meter.steps == 4 else 0.0

    def __call__(self, step):
        beat, within = divmod(np.asarray(step, float) / self.steps, 1.0)
        swung = np.interp(within, (0, 0.5, 1), (0, 0.5 + self.swing, 1))
        seconds = self.lead + self.beat * (beat + swung)
        return np.interp(seconds, *self.played) if self.played else seconds


def compose(artist, seconds, rng, bank, tonic=None, expression=None):
    """Compose a `Piece` of an artist; the same state of `rng` gives the same piece.

    Notes that the bank cannot play are not composed. A piece with a given tonic (0 to 11 from C on)
    stays in its key. An `expression.Expression` changes its tempo, form and harmony.
    """
    genre = GENRES[artist.genre]
    tempo = artist.tempo + artist.tempo_spread * rng.standard_normal()
    while not SLOWEST <= tempo <= FASTEST:  # folded, not clipped: no accumulation at the limits
        tempo = 2 * SLOWEST - tempo if tempo < SLOWEST else 2 * FASTEST - tempo
    meter_name = choose(rng, (expression or genre).meters)
    meter = METERS[meter_name]
    mode = MODES[int(rng.random() < artist.minor)]
    stays, drawn = tonic is not None, int(rng.integers(12))
    tonic = tonic if stays else drawn
    scale = choose(rng, genre.scales[mode])
    lead, end = float(rng.uniform(0, 0.4)), seconds
    if expression:
        lead, end = expression.start, expression.end
    clock = Clock(tempo, meter, artist.swing, lead)
    bars = max(1, round((end - lead) / (clock.beat * meter.beats)))

    symbols = {"verse": _progression(genre, mode, rng, expression)}
    unit = 12 if len(symbols["verse"]) == 12 else 8  # bars of a section
    if bars < (6 if expression else 4) * unit:
        unit //= 2  # so that a short piece has a form at all
    form = _form((expression or genre).forms, bars, unit, rng)
    shifts = [0] * len(form) if stays else _modulations(genre.modulated, form, rng)
    harmony = []  # one entry per bar: [(step, length, chord)]
    for (name, length), shift in zip(form, shifts, strict=True):
        kind, key = SECTIONS[name]["like"], (tonic + shift) % 12
        if kind not in symbols:
            symbols[kind] = _progression(genre, mode, rng, expression)
        written = islice(cycle(symbols[kind]), length)
        harmony += [_chords(bar, key, meter, artist.color) for bar in written]
    if expression:
        expression.play(clock, meter, form)
    home = Chord.parse("I" if mode == "major" else "i", (tonic + shifts[-1]) % 12)
    harmony[-1] = [(0, meter.bar, home)]
    parts = _perform(genre, artist, meter, form, shifts, tonic, SCALES[scale], harmony, clock, rng)
    parts = finish(parts, end, bank)

    def at(step):
        return float(clock(step)) if step < bars * meter.bar else end

    edges = [at(bar * meter.bar) for bar in accumulate((size for _, size in form), initial=0)]
    spans = list(pairwise(edges))
    tonics = [TONICS[(tonic + shift) % 12] for shift in shifts]
    chords = [
        (at(bar * meter.bar + step), at(bar * meter.bar + step + length), chord.name)
        for bar, chords in enumerate(harmony)
        for step, length, chord in chords
    ]
    beats = clock(np.arange(clock.pick_up, bars * meter.beats) * meter.steps)
    beats = [float(t) for t in beats if t < end]
    return Piece(
        genre=artist.genre,
        artist=artist.name,
        seconds=seconds,
        tempo=tempo,
        meter=meter_name,
        keys=_joined((*span, name, mode) for span, name in zip(spans, tonics, strict=True)),
        chords=_joined(chords),
        sections=[(*span, name) for span, (name, _) in zip(spans, form, strict=True)],
        beats=beats,
        downbeats=beats[-clock.pick_up % meter.beats :: meter.beats],
        mood=_mood(parts, tempo, mode, seconds),
        parts=parts,
    )


def _progression(genre, mode, rng, expression):
    """The chord symbols of a kind of section, one text per bar."""
    if rng.random() < genre.loop_share:
        loops = genre.loops[mode]
        symbols = loops[rng.integers(len(loops))].split()
    else:
        symbols = phrase(rng, mode, int(rng.choice((4, 8))))
    return expression.enrich(symbols) if expression else symbols


def _chords(symbols, tonic, meter, color):
    """The chord or the two chords of a bar, as (step, length, chord)."""
    chords = [Chord.parse(symbol, tonic).colored(color) for symbol in symbols.split("/")]
    middle = meter.steps * math.ceil(meter.beats / 2)
    if len(chords) == 1:
        return [(0, meter.bar, chords[0])]
    return [(0, middle, chords[0]), (middle, meter.bar - middle, chords[1])]


def _form(forms, bars, unit, rng):
    """(name, bars) of each section: at most a `unit` each, `bars` in all."""
    names = choose(rng, forms).split()
    half = max(2, unit // 2)  # bars of an intro or outro
    intro = min(half, bars) if names[0] == "intro" else 0
    outro = min(half, bars // 4) if names[-1] == "outro" else 0
    body = cycle(name for name in names if name not in ("intro", "outro"))
    parts = [(next(body), min(unit, left)) for left in range(bars - intro - outro, 0, -unit)]
    return [part for part in [("intro", intro), *parts, ("outro", outro)] if part[1]]


def _modulations(shares, form, rng):
    """Semitones of each section above the first: a lifted last chorus, or a bridge elsewhere."""
    shifts, names = [0] * len(form), [name for name, _ in form]
    if rng.random() < shares.get("bridge", 0.0):
        step = int(rng.choice((5, 7)))
        return [step if name == "bridge" else 0 for name in names]
    if rng.random() < shares.get("chorus", 0.0) and names.count("chorus") > 1:
        last = len(names) - 1 - names[::-1].index("chorus")
        shifts[last:] = [int(rng.choice((1, 2)))] * (len(names) - last)
    return shifts


def _perform(genre, artist, meter, form, shifts, tonic, scale, harmony, clock, rng):
    """The parts, each a list of notes."""
    programs = {
        role: choices[int(rng.random() < 0.25)] for role, choices in artist.programs.items()
    }
    solo = artist.programs["melody"][1] if rng.random() < 0.5 else programs["melody"]
    drummed = rng.random() < genre.drums
    drummed |= any(chord.name == "N" for bar in harmony for *_, chord in bar)
    padded = rng.random() < 0.6
    force = rng.normal(1.0, 0.06)  # how hard this piece is played
    bass = Bassist(artist.ways["bass"], meter, rng)
    comp = Comper(artist.ways["comp"], meter, rng, CENTERS["comp"])
    pad = Comper("block", meter, rng, CENTERS["pad"])
    drummers = {name: Drummer(artist.ways["beats"], meter, rng) for name in ("verse", "chorus")}
    soloists = {
        name: Soloist(artist.ways["melody"], meter, rng, CENTERS["melody"] + lift)
        for name, lift in (("verse", -2), ("chorus", 3), ("bridge", 1))
    }
    played, bar = {}, 0
    for (name, length), shift in zip(form, shifts, strict=True):
        section = SECTIONS[name]
        classes = {(tonic + shift + step) % 12 for step in scale}
        soloist = soloists[section["like"]]
        for index in range(length):
            chords = harmony[bar]
            following = harmony[min(bar + 1, len(harmony) - 1)][0][2]
            ends = bar == len(harmony) - 1
            notes = {}
            if chords[0][2].pitch_classes:  # otherwise only the drums play
                notes["comp"] = comp.bar(chords)
                notes["bass"] = bass.bar(rng, chords, following)
                if padded and "pad" not in section["silent"]:
                    notes["pad"] = pad.bar(chords)
                if "melody" not in section["silent"]:
                    notes["melody"] = soloist.bar(rng, index, chords, classes, index == length - 1)
            if drummed and not (name == "intro" and index < length // 2):
                lifts = name == "chorus"
                drummer = drummers["chorus" if lifts else "verse"]
                notes["drums"] = drummer.bar(rng, index == 0 and lifts, index == length - 1)
            for role, events in notes.items():
                if ends and role != "drums":  # all end on the last bar's chord
                    events = list(events)
                    first = min((step for step, *_ in events), default=0)
                    events = [(0, 2 * meter.bar, p, v) for s, _, p, v in events if s == first]
                program = DRUMS if role == "drums" else programs[role]
                if role == "melody" and name in ("bridge", "solo"):
                    program = solo
                events = perform_bar(events, bar, artist, clock, rng, section["dynamics"] * force)
                played.setdefault((role, program), []).extend(events)
            bar += 1
    return [
        Part(role, program, np.array(sorted(events), NOTE))
        for (role, program), events in sorted(played.items())
        if events
    ]


def perform_bar(notes, bar, artist, clock, rng, dynamics=1.0):
    """Yield `NOTE`s, as an artist plays the (step, length, pitch, velocity) of a bar."""
    first = bar * clock.bar
    for step, length, pitch, velocity in notes:
        begin, end = clock(first + step), clock(first + step + length)
        if end <= begin:  # before the pick-up
            continue
        start = max(0.0, float(begin) + artist.tightness * rng.standard_normal())
        stop = start + max(0.05, artist.legato * float(end - begin))
        loud = dynamics * velocity + 4 * rng.standard_normal()
        yield start, stop, pitch, int(np.clip(loud, 20, 127))


def finish(parts, seconds, bank):
    """Cut at the end, shift or drop notes that the bank cannot play, shorten overlapping ones."""
    finished = []
    for part in parts:
        notes = part.notes[part.notes["start"] < seconds - 0.05].copy()
        notes["end"] = np.minimum(notes["end"], seconds)
        for note in notes:
            pitch = int(note["pitch"])
            octaves = (0, -12, 12, -24, 24)
            note["pitch"] += next((o for o in octaves if bank.plays(part.program, pitch + o)), 0)
        notes = notes[[bank.plays(part.program, int(pitch)) for pitch in notes["pitch"]]]
        lines = notes["pitch"] * (part.role not in ("bass", "melody"))  # which have one voice
        for voice in (np.flatnonzero(lines == line) for line in set(lines)):
            starts, ends = notes["start"][voice], notes["end"][voice]
            ends[:-1] = np.minimum(ends[:-1], starts[1:] - 0.005)
            notes["end"][voice] = np.maximum(ends, starts + 0.02)
        if len(notes):
            finished.append(Part(part.role, part.program, notes))
    return finished


def _mood(parts, tempo, mode, seconds):
    """Arousal and valence in -1 to 1, and their ingredients.

    Arousal rises with tempo, dynamics and density; valence with the major mode, a high register
    and short notes. Directions: Gabrielsson and Lindström (2010); the weights are ours.
    """
    pitched = [part.notes for part in parts if part.program != DRUMS]
    everything = np.concatenate([part.notes for part in parts])
    tune = np.concatenate([part.notes for part in parts if part.role != "drums"])
    lengths = np.concatenate([notes["end"] - notes["start"] for notes in pitched])
    density, short = len(everything) / seconds, float((lengths < 0.25).mean())
    dynamics, register = float(everything["velocity"].mean()), float(tune["pitch"].mean())
    # Each relative to its mean over 200 tracks, in standard deviations.
    arousal = (tempo - 110) / 25 + (dynamics - 81) / 6 + (density - 15) / 7
    valence = (0.9 if mode == "major" else -0.7) + 0.5 * (register - 57) / 4 + (short - 0.56) / 0.5
    mood = {"arousal": math.tanh(0.5 * arousal), "valence": math.tanh(0.7 * valence)}
    mood |= {"density": density, "dynamics": dynamics}
    return mood | {"register": register, "short_notes": short}


def _joined(spans):
    """Join neighbouring spans of the same label."""
    spans = [span for span in spans if span[1] > span[0]]
    runs = ((label, list(run)) for label, run in groupby(spans, key=lambda span: span[2:]))
    return [(run[0][0], run[-1][1], *label) for label, run in runs]
