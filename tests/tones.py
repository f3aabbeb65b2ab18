"""Small synthetic recordings: harmonic notes that change, and a little noise."""

from pathlib import Path

import numpy as np
import soundfile

NAMES = (
    "waltz.wav",
    "march.flac",
    "reel.ogg",
    "polka.mp3",
    "sets/hymn.wav",
    "it's 'live', \"take [2]\", (remix).flac",
    "loud.OGG",
    "air.mp3",
)
RATES = (44100, 48000, 32000, 44100, 24000, 44100, 48000, 32000)


def melody(seconds, sample_rate, channels, rng):
    """Notes of half a second with four partials; float32, shape (samples, channels)."""
    time = np.arange(int(seconds * sample_rate)) / sample_rate
    notes = rng.integers(45, 77, int(2 * seconds) + 1)
    pitch = 440 * 2 ** ((notes[(2 * time).astype(int)] - 69) / 12)
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    wave = sum(np.sin(k * phase) / k for k in range(1, 5)) * np.exp(-2 * (time % 0.5))
    pan = np.linspace(0.1, 0.2, channels)
    return (wave[:, None] * pan + 0.003 * rng.standard_normal((len(time), channels))).astype("f4")


def write_tones(folder, count=8, seconds=(6, 12), seed=0):
    """Write recordings of many formats, rates and names, `seconds` long; returns their paths."""
    rng = np.random.default_rng(seed)
    paths = []
    for index in range(count):
        name, rate = NAMES[index % len(NAMES)], RATES[index % len(RATES)]
        path = Path(folder, "" if index < len(NAMES) else f"disc {index // len(NAMES) + 1}", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, melody(rng.uniform(*seconds), rate, 1 + index % 2, rng), rate)
        paths.append(path)
    return paths
