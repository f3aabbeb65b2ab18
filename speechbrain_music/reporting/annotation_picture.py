"""A picture of a track: its spectrogram with beats, chords or sections over it."""

import numpy as np
import torch

from speechbrain_music.dataio.annotations import Beats
from speechbrain_music.dataio.audio import SAMPLE_RATE, audio_info, read_segments
from speechbrain_music.models.frontend import TOKEN_RATE, LogMel
from speechbrain_music.reporting.pictures import picture

PART = 60  # seconds of audio
ROW_SECONDS, ROWS = 20.0, 16  # of a row; longer tracks have longer rows
IMAGE = {"origin": "lower", "aspect": "auto", "cmap": "gray_r"}


def spectrogram(audio):
    """The log-mel (bands, tokens of 40 ms) of an audio file, and limits to draw it between."""
    parts, features, length = [], LogMel(), PART * SAMPLE_RATE  # at a time, for the memory
    starts = range(0, round(audio_info(audio).seconds * SAMPLE_RATE), length)
    for wave in read_segments(audio, [(start, length) for start in starts]):
        if len(wave):
            mel = features(torch.from_numpy(wave[None]), torch.tensor([len(wave)]))[0][0]
            parts.append(mel.unflatten(0, (-1, 4)).mean(1).T.numpy())  # four frames a token
    mel = np.concatenate(parts, axis=1)
    low, high = np.percentile(mel, [5, 99.5])
    return mel, {"vmin": low, "vmax": max(high, low + 1e-3)}


def draw_annotation(path, audio, annotation, title):
    """Draws an audio file and its `Beats` or `LabelledIntervals` into a PNG.

    Beats are lines, downbeats with their number of the bar; intervals begin at a line with their
    label, and neighbours of other labels have other colours.
    """
    mel, limits = spectrogram(audio)
    seconds = mel.shape[1] / TOKEN_RATE
    length = max(ROW_SECONDS, seconds / ROWS)
    rows = max(1, int(np.ceil(seconds / length - 1e-6)))
    with picture(path, (15, 1 + 1.5 * rows)) as figure:
        figure.suptitle(title, parse_math=False)
        for row, axes in enumerate(figure.subplots(rows, 1, squeeze=False)[:, 0]):
            start = row * length
            part = mel[:, int(start * TOKEN_RATE) : int((start + length) * TOKEN_RATE)]
            extent = (start, start + part.shape[1] / TOKEN_RATE, 0, 1)
            axes.imshow(part, extent=extent, **limits, **IMAGE)
            axes.set_xlim(start, start + length)
            axes.set_yticks([])
            (_draw_beats if isinstance(annotation, Beats) else _draw_spans)(axes, annotation)
        axes.set_xlabel("seconds")


def _text(axes, time, text):
    """A label above the row, if the row shows this time."""
    low, high = axes.get_xlim()
    if low <= time < high:
        axes.text(time, 1.02, text, fontsize=7, clip_on=False, parse_math=False)


def _draw_beats(axes, beats):
    bar = np.cumsum(beats.positions == 1)
    for time, position, number in zip(*beats, bar, strict=True):
        first = position == 1
        axes.axvline(time, color="tab:red" if first else "tab:blue", lw=1.6 if first else 0.8)
        if first:
            _text(axes, time, number)


def _draw_spans(axes, labelled):
    names = list(dict.fromkeys(labelled.labels))
    low, high = axes.get_xlim()
    for (start, end), label in zip(*labelled, strict=True):
        color = f"C{names.index(label) % 10}"
        axes.axvspan(max(start, low), max(min(end, high), low), color=color, alpha=0.3, lw=0)
        axes.axvline(start, color=color, lw=1)
        _text(axes, max(start, low) if end > low else start, label)
