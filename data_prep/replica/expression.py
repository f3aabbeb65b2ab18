"""Expression: pieces whose tempo changes, which start with silence or a pick-up, and rich harmony.

The score is composed as ever. `Expression` then maps its seconds to performed seconds; notes,
beats, chords, sections and keys pass through the same map, so the annotations stay true.
"""

import re
from dataclasses import replace

import numpy as np

from speechbrain_music.data_prep.replica.compose import compose
from speechbrain_music.data_prep.replica.draws import read_yaml

SHORT = 0.5  # seconds; less of silence is no section of its own


def perform(artist, seconds, rng, bank, tonic=None, breaks=True):
    """Compose a `Piece` of 10 s or more, played with expression; arguments as of `compose`.

    Chords are `N` where none sounds: before the first beat, after the last bar and, with `breaks`,
    in bars of drums alone. There are sections `silence` of 0.5 s or more, `inst` and `solo`.
    """
    expression = Expression(rng, seconds, breaks)
    piece = compose(artist, seconds, rng, bank, tonic, expression)
    start, end = expression.start, expression.end
    first, last = piece.sections[0], piece.sections[-1]
    sections = [(0.0, start, "silence"), *piece.sections, (end, seconds, "silence")]
    if start < SHORT:
        sections[:2] = [(0.0, *first[1:])]
    if seconds - end < SHORT:
        sections[-2:] = [(sections[-2][0], seconds, last[2])]
    chords = [(0.0, start, "N"), *piece.chords, (end, seconds, "N")]
    return replace(
        piece,
        tempo=float(60 / np.median(np.diff(piece.beats))),
        chords=[span for span in chords if span[0] < span[1]],
        sections=sections,
    )


class Expression:
    """How one piece of so many seconds is played and what its chords become, drawn from `rng`."""

    meters, forms = read_yaml("theory.yaml")["expression"].values()
    sevenths, suspensions, slashes = 0.3, 0.15, 0.2  # shares of the bars of plain chords
    break_share = 0.25  # of the kinds of section, whose fourth bar is for drums alone

    def __init__(self, rng, seconds, breaks=True):
        self.rng, self.breaks = rng, breaks
        self.start = float(rng.uniform(*((1, 4) if rng.random() < 0.3 else (0.02, 0.4))))
        self.end = seconds - float(rng.uniform(0, 2) if rng.random() < 0.5 else 0)

    def enrich(self, symbols):
        """Chord symbols of a section's bars, some as seventh or slash chords, some suspended."""
        rich = ["/".join(map(self._color, bar.split("/"))) for bar in symbols]
        for index, bar in enumerate(rich):
            if re.fullmatch(r"[b#]?[ivIV]+", bar) and self.rng.random() < self.suspensions:
                rich[index] = f"{bar}sus4/{bar}"
        if self.breaks and len(rich) > 3 and self.rng.random() < self.break_share:
            rich[3] = "N"
        return rich

    def _color(self, symbol):
        plain = re.fullmatch(r"[b#]?([ivIV]+)", symbol)
        if plain and self.rng.random() < self.sevenths:
            dominant = plain[1] in ("V", "VII") or plain[1].islower()
            symbol += "7" if dominant else "maj7"
        if "5" not in symbol and self.rng.random() < self.slashes:
            symbol += f"^{self.rng.integers(1, 4 if '7' in symbol else 3)}"
        return symbol

    def play(self, clock, meter, form):
        """Let a score's clock tell performed seconds, from the pick-up to the end.

        The tempo drifts by up to 10%, may change at one section, and slows where phrases meet.
        """
        rng, bars = self.rng, [length for _, length in form]
        beat = np.arange(sum(bars) * meter.beats)
        waves = rng.uniform(0, 0.05, 2), rng.uniform(24, 96, 2), rng.random(2)
        slower = sum(d * np.sin(2 * np.pi * (beat / p + q)) for d, p, q in zip(*waves, strict=True))
        if len(form) > 1 and rng.random() < 0.4:
            bar = np.cumsum(bars)[rng.integers(len(bars) - 1)]
            slower[bar * meter.beats :] += rng.uniform(-0.12, 0.12)
        phrase = np.cos(2 * np.pi * (beat + 0.5) / (4 * meter.beats))
        slower += rng.choice((0, 0.03, 0.08)) * phrase + 0.01 * rng.standard_normal(len(beat))
        first = int(rng.integers(1, meter.beats)) if rng.random() < 0.3 and len(beat) > 4 else 0
        score = clock(meter.steps * np.arange(first, len(beat) + 1))
        played = np.cumsum([0, *np.exp(slower[first:])])  # to be scaled
        played = self.start + (self.end - self.start) * played / played[-1]
        clock.pick_up, clock.played = first, (score, played)
