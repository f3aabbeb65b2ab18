"""`replica_card.md`: what a composed corpus is like, with pictures, written into its folder."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile
from matplotlib.figure import Figure
from scipy import signal

from speechbrain_music.data_prep.manifest import read_manifest
from speechbrain_music.data_prep.replica.corpus import CorpusError
from speechbrain_music.data_prep.replica.genres import GENRES
from speechbrain_music.data_prep.replica.synth import DRUMS, RATE
from speechbrain_music.data_prep.replica.theory import MODES, TONICS
from speechbrain_music.utils.atomic import write_together

MEASURED = 300  # tracks whose audio is read, at most
SHOWN = ("jazz", "metal", "classical", "reggae")  # one track each beside its mel
EXCERPT = 12.0  # seconds
COLORS = {"melody": "C3", "comp": "C0", "pad": "C2", "bass": "C1"}


def write_card(folder):
    """Writes the page and its pictures.

    Arguments
    ---------
    folder : str | Path
        What `make_corpus` made.

    Returns
    -------
    Path
        `replica_card.md` in it.

    Raises
    ------
    CorpusError
        If the folder holds no complete corpus.

    Example
    -------
    >>> try:
    ...     write_card("nowhere")
    ... except CorpusError as error:
    ...     print(error)
    nowhere holds no complete corpus; make one there first.
    """
    folder = Path(folder)
    if not (folder / "tracks.csv").exists():
        raise CorpusError(f"{folder} holds no complete corpus; make one there first.")
    facts = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
    tracks = read_manifest(folder / "tracks.csv", folder)
    pictures = folder / "card"
    pictures.mkdir(exist_ok=True)
    step = max(1, len(tracks) // MEASURED)
    loudness, spectra = _measure(tracks.iloc[::step])
    _draw_distributions(tracks, loudness, pictures / "distributions.png")
    _draw_spectra(spectra, pictures / "spectra.png")
    lines = [
        "# A composed corpus",
        "",
        f"{len(tracks)} tracks, {tracks['duration'].sum() / 3600:.2f} hours, "
        f"{tracks['artist'].nunique()} artists, generator {facts['generator']}, "
        f"seed {facts['seed']}, sound bank {facts['sound_bank'][:12]}. "
        "Made by a program from a seed: it stands in for music where there is none.",
        "",
        "![keys, tempi, durations, loudness](card/distributions.png)",
        "",
        "| genre | tracks | tempo: median (5% to 95%) | minor | 4/4, 3/4, 6/8 |",
        "|---|---:|---|---:|---|",
    ]
    for genre, part in tracks.groupby("genre"):
        low, middle, high = np.percentile(part["tempo"].astype(float), (5, 50, 95))
        minor = part["key"].str.endswith("minor").mean()
        meters = Counter(part["meter"])
        shares = ", ".join(f"{meters[m] / len(part):.0%}" for m in ("4/4", "3/4", "6/8"))
        lines.append(
            f"| {genre} | {len(part)} | {middle:.0f} ({low:.0f} to {high:.0f}) "
            f"| {minor:.0%} | {shares} |"
        )
    lines += ["", "![mean spectrum by genre](card/spectra.png)", ""]
    for genre in SHOWN:
        part = tracks[tracks["genre"] == genre]
        if len(part):
            track = part.iloc[len(part) // 2]
            _draw_excerpt(track, pictures / f"{genre}.png")
            lines += [
                f"`{track['ID']}`: {genre}, {track['key']}, {track['tempo']} BPM, "
                f"{track['meter']}; its notes beside its mel",
                "",
                f"![{genre}](card/{genre}.png)",
                "",
            ]
    page = folder / "replica_card.md"
    write_together({page: "\n".join(lines)})
    return page


def _measure(tracks):
    """Loudness (dBFS RMS) by genre, and the mean power spectrum in dB by genre."""
    loudness, spectra = {}, {}
    for track in tracks.itertuples():
        wave, _ = soundfile.read(track.wav, dtype="float32")
        loudness.setdefault(track.genre, []).append(10 * np.log10(np.mean(wave**2)))
        _, power = signal.welch(wave, RATE, nperseg=2048)
        spectra.setdefault(track.genre, []).append(10 * np.log10(power / power.sum()))
    return loudness, spectra


def _figure(rows, columns, size):
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns)


def _draw_distributions(tracks, loudness, path):
    figure, axes = _figure(2, 2, (11, 7))
    keys = Counter(tracks["key"])
    for mode, shift in zip(MODES, (-0.2, 0.2), strict=True):
        counts = [keys[f"{tonic} {mode}"] for tonic in TONICS]
        axes[0, 0].bar(np.arange(12) + shift, counts, 0.4, label=mode)
    axes[0, 0].set_xticks(range(12), TONICS)
    axes[0, 0].set(title="keys", ylabel="tracks")
    axes[0, 0].legend()
    genres = [genre for genre in GENRES if genre in loudness]
    tempi = [tracks.loc[tracks["genre"] == g, "tempo"].astype(float) for g in genres]
    axes[0, 1].boxplot(tempi, tick_labels=genres, whis=(5, 95))
    axes[0, 1].set(title="tempo by genre", ylabel="beats per minute")
    axes[1, 0].hist(tracks["duration"], 30)
    axes[1, 0].set(title="durations", xlabel="seconds", ylabel="tracks")
    axes[1, 1].boxplot([loudness[g] for g in genres], tick_labels=genres, whis=(5, 95))
    axes[1, 1].set(title="loudness by genre", ylabel="dBFS RMS")
    for axis in (axes[0, 1], axes[1, 1]):
        axis.tick_params("x", rotation=40)
    figure.savefig(path, dpi=110)


def _draw_spectra(spectra, path):
    figure, axis = _figure(1, 1, (9, 4.5))
    frequencies = np.linspace(0, RATE / 2, 1025)
    for genre, levels in sorted(spectra.items()):
        axis.semilogx(frequencies[1:], np.mean(levels, 0)[1:], label=genre, lw=1)
    axis.set(
        title="mean spectrum by genre",
        xlabel="Hz",
        ylabel="dB of the whole power",
        xlim=(30, RATE / 2),
        ylim=(-90, 0),
    )
    axis.legend(ncols=2, fontsize=8)
    figure.savefig(path, dpi=110)


def _mel(hertz):
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def _draw_excerpt(track, path):
    truth = json.loads(Path(track["wav"]).with_suffix(".json").read_text(encoding="utf-8"))
    begin = max(0.0, min(0.4 * truth["seconds"], truth["seconds"] - EXCERPT))
    end = min(begin + EXCERPT, truth["seconds"])
    figure, (roll, image) = _figure(2, 1, (12, 8))
    for part in truth["instruments"]:
        if part["program"] == DRUMS:
            continue
        notes = [note for note in part["notes"] if note[1] > begin and note[0] < end]
        roll.barh(
            [note[2] for note in notes],
            [note[1] - note[0] for note in notes],
            0.9,
            [note[0] for note in notes],
            color=COLORS[part["role"]],
            label=f"{part['role']} ({part['program']})",
        )
    drums = [n for p in truth["instruments"] if p["program"] == DRUMS for n in p["notes"]]
    hits = [(n[0], n[2] - 15) for n in drums if begin < n[0] < end]
    roll.scatter(*zip(*hits, strict=True) if hits else ((), ()), s=6, color="0.4", label="drums")
    for axis in (roll, image):
        for beat in truth["beats"]:
            if begin <= beat < end:
                down = beat in truth["downbeats"]
                axis.axvline(
                    beat, color="k" if axis is roll else "w", lw=0.9 if down else 0.3, alpha=0.6
                )
        axis.set_xlim(begin, end)
    for start, _, name in truth["chords"]:
        if begin <= start < end - 0.4:
            roll.text(start, roll.get_ylim()[1], f" {name}", fontsize=8, va="bottom")
    roll.set(ylabel="MIDI pitch")
    roll.legend(fontsize=8, loc="upper right")
    wave, _ = soundfile.read(track["wav"], dtype="float32")
    frequencies, times, power = signal.spectrogram(
        wave[round(begin * RATE) : round(end * RATE)], RATE, nperseg=2048, noverlap=2048 - 240
    )
    levels = 10 * np.log10(power + 1e-12)
    top = levels.max()
    image.pcolormesh(
        times + begin,
        _mel(frequencies),
        levels,
        vmin=top - 80,
        vmax=top,
        cmap="magma",
        rasterized=True,
    )
    ticks = (0, 250, 500, 1000, 2000, 4000, 8000, 12000)
    image.set_yticks(_mel(ticks), [str(tick) for tick in ticks])
    image.set(xlabel="seconds", ylabel="Hz, on the mel scale")
    figure.savefig(path, dpi=110)
