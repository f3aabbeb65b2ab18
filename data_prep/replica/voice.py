"""A voice that sings and speaks: glottal pulses and breath noise filtered by a vocal tract.

The techniques are those of VocalSet (Wilkins et al., ISMIR 2018): each changes how the pitch moves,
how the glottis opens and what the tract lets through. Speech is random phones, of no language.
"""

from types import SimpleNamespace

import numpy as np
from scipy import signal

from speechbrain_music.data_prep.replica.draws import read_yaml
from speechbrain_music.data_prep.replica.mix import gain, set_level
from speechbrain_music.data_prep.replica.synth import RATE

OVER = 4  # pulses are computed at this multiple of the rate against aliasing
SHORTEST = 0.05  # seconds of a note
FADE, EDGE = 480, 120  # samples, 20 and 5 ms: fades of notes and of phones
_TABLES = read_yaml("voice.yaml")
VOWELS, UPPER, KINDS, VOICES, SINGERS, PHONES, SYLLABLE = (
    _TABLES[key] for key in "vowels upper kinds voices singers phones syllable".split()
)
BANDWIDTHS = np.array(_TABLES["bandwidths"])
TECHNIQUES = {
    name: SimpleNamespace(**_TABLES["neutral"] | changes)
    for name, changes in _TABLES["techniques"].items()
}
SPEECH = SimpleNamespace(**vars(TECHNIQUES["spoken"]) | {"motion": "sung"})  # at given pitches
TYPICAL_RATE = 5.5  # Hz: singers whose vibrato has this rate speak at the table's lengths


def make_singer(name, rng, kinds=tuple(KINDS)):
    """Draw a singer of one of some `KINDS`."""
    lowest, length = KINDS[str(rng.choice(kinds))]
    lowest += int(rng.integers(-2, 3))
    tract = length * rng.normal(1, 0.03) * rng.normal(1, 0.03, len(BANDWIDTHS))
    return SimpleNamespace(
        name=name,
        lowest=lowest,  # MIDI pitch
        highest=lowest + 22,
        tract=tuple(tract.tolist()),  # factors of the formants, and of their bandwidths
        widths=float(rng.uniform(0.8, 1.4)),
        corner=float(np.exp(rng.uniform(np.log(1200), np.log(5000)))),  # Hz: 6 dB per octave more
        **{name: float(rng.uniform(*bounds)) for name, bounds in SINGERS.items()},
    )


def sing(singer, technique, melody, vowel, rng):
    """Sing a melody on a vowel: (samples,) float32 at 24 kHz, within +-0.97.

    The melody is a list of (MIDI pitch, 36 to 84; seconds, 0.05 or more). Speech follows the
    pitches loosely and goes on to other vowels, a vocal fry lies far below.
    """
    way = TECHNIQUES[technique]
    edges = np.rint(RATE * np.cumsum([0.0] + [length for _, length in melody])).astype(int)
    size = edges[-1]
    hertz = _pitch(singer, way, melody, edges, rng)
    source = _source(singer, way, hertz, rng) * _loudness(way, size, rng)

    wave = np.zeros(size)
    for start, end, pitch, spoken in _syllables(way, melody, edges, vowel, rng):
        _add(wave, source, start, end, FADE, _tract(singer, way, VOWELS[spoken], pitch))
    if way.cutoff < RATE / 2:
        wave = signal.sosfilt(signal.butter(2, way.cutoff, fs=RATE, output="sos"), wave)
    return set_level((wave * _fade(size, rng)).astype(np.float32), rng)


def speak(speaker, seconds, rng):
    """Speak for so many seconds, as a singer speaks: (samples,) float32 at 24 kHz, within +-0.97.

    Phrases of 4 to 14 syllables, in which the pitch declines, and pauses.
    """
    phones = []
    while sum(length for _, _, length in phones) < seconds:
        phones += _phrase(speaker, rng)
    edges = np.rint(RATE * np.cumsum([0.0] + [length for _, _, length in phones])).astype(int)
    hertz = _pitch(speaker, SPEECH, [phone[1:] for phone in phones], edges, rng)
    voice, noise = _source(speaker, SPEECH, hertz, rng), rng.standard_normal(edges[-1])
    wave = np.zeros(edges[-1])
    for (name, pitch, _), start, end in zip(phones, edges, edges[1:], strict=False):
        phone = PHONES[name]
        if "voice" in phone:
            *formants, level = phone["voice"]
            filters = _tract(speaker, SPEECH, formants, pitch)
            _add(wave, voice, start, end, EDGE, filters, level)
        if "noise" in phone:
            *band, level = phone["noise"]
            filters = signal.butter(2, band, "bandpass", fs=RATE, output="sos")
            opening = start + round(phone.get("closed", 0) * (end - start))
            _add(wave, noise, opening, end, EDGE, filters, level)
    return set_level(wave[: round(seconds * RATE)].astype(np.float32), rng)


def _phrase(speaker, rng):
    """Phones of a phrase and a pause, as (name, MIDI pitch, seconds)."""
    syllables, phones = rng.integers(4, 15), []
    for syllable in range(syllables):
        accent = 2.0 * (rng.random() < 0.4)
        pitch = speaker.lowest + 5 - 5 * syllable / syllables + accent + rng.normal(0, 0.7)
        for probability, names in SYLLABLE:
            if rng.random() < probability:
                name = str(rng.choice(names))
                seconds = PHONES[name]["seconds"] * np.exp(rng.normal(0.1 * accent, 0.2))
                phones.append((name, pitch, seconds * TYPICAL_RATE / speaker.rate))
    return [*phones, ("pause", speaker.lowest, rng.uniform(0.15, 0.7))]


def _add(wave, source, start, end, fade, filters, level=None):
    """Add a source, filtered by second-order sections; its RMS may be set, in dB."""
    # It starts a little early, for the filters to settle, and fades into the next.
    low, high = max(0, start - 2 * fade), min(len(wave), end + fade)
    sound = signal.sosfilt(filters, source[low:high])
    if level is not None:
        sound *= gain(level) / sound.std()
    fades = [start - fade, start + fade, end - fade, end + fade]
    weights = [start == 0, 1, 1, end == len(wave)]
    wave[low:high] += sound * np.interp(np.arange(low, high), fades, weights)


def _source(singer, way, hertz, rng):
    """Sound that enters the tract, for the fundamental frequency of every sample in Hz."""
    pulses, flow = _glottis(singer, way, hertz, rng)
    if way is TECHNIQUES["inhaled"]:
        flow[:] = 0.5  # inhaled air is not pulsed
    breath = signal.lfilter([1, -0.7], 1, rng.standard_normal(len(hertz))) * (0.15 + flow)
    breath *= gain(singer.breath + way.breath) * pulses.std() / breath.std()
    return pulses + breath


def _pitch(singer, way, melody, edges, rng):
    """Fundamental frequency of every sample in Hz."""
    lengths, size = np.diff(edges), edges[-1]
    time = np.arange(size) / RATE
    pitch = np.repeat([float(pitch) for pitch, _ in melody], lengths)
    if way.motion == "spoken":  # each note falls
        pitch += 2 - 6 * np.concatenate([np.arange(length) / length for length in lengths])
        pitch += 1.5 * np.sin(2 * np.pi * (rng.uniform(1, 2) * time + rng.random()))
    glide = signal.windows.hann(round(singer.glide * RATE) | 1)
    padded = np.pad(pitch, len(glide) // 2, mode="edge")
    pitch = signal.oaconvolve(padded, glide / glide.sum(), mode="valid")
    for rate in rng.uniform(0.3, 2, 3):  # no singer holds a pitch exactly
        pitch += 0.03 * np.sin(2 * np.pi * (rate * time + rng.random()))
    rate = singer.rate * rng.normal(1, 0.02)
    depth = way.vibrato * singer.extent / 100 * np.minimum(1, time / 0.3)
    pitch += depth * np.sin(2 * np.pi * (rate * time + rng.random()))
    if way.motion == "trill":
        swing = np.sin(2 * np.pi * (rng.uniform(5, 7) * time + rng.random()))
        pitch += rng.integers(1, 3) * (0.5 + 0.5 * np.tanh(3 * swing))
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    if way.motion == "fry":  # the melody moves it a little
        hertz = np.clip(rng.uniform(38, 58) * (hertz / hertz.mean()) ** 0.3, 30, 70)
    return hertz


def _glottis(singer, way, hertz, rng):
    """Pulses (the derivative of the flow) and the flow (Rosenberg, JASA 1971, type C)."""
    steps = np.repeat(hertz, OVER) / (OVER * RATE)
    period = np.floor(np.cumsum(steps)).astype(int)
    steps *= np.exp(way.rough * singer.jitter * rng.standard_normal(period[-1] + 1))[period]
    period, phase = np.divmod(rng.random() + np.cumsum(steps), 1)
    period = period.astype(int)
    close = np.clip(singer.open * way.open, 0.25, 0.9)  # where in the period the glottis closes
    peak = 0.67 * close
    rising, falling = np.pi * phase / peak, np.pi / 2 * (phase - peak) / (close - peak)
    flow = np.where(phase < peak, 0.5 - 0.5 * np.cos(rising), np.cos(falling) * (phase < close))
    level = np.exp(way.rough * singer.shimmer * rng.standard_normal(period[-1] + 1))[period]
    # Differences, not the derivative's values: a mean over each sample aliases far less.
    slope = np.diff(level * flow, prepend=level[0] * flow[0])
    pole = np.exp(-2 * np.pi * way.bright * singer.corner / (OVER * RATE))
    pulses = signal.resample_poly(signal.lfilter([1 - pole], [1, -pole], slope), 1, OVER)
    return pulses, flow[::OVER].copy()


def _loudness(way, size, rng):
    """Loudness factor of every sample: the pulses of a technique."""
    slow, fast, quicker, depth = way.beat
    rate = rng.uniform(slow, fast) * quicker ** np.linspace(0, 1, size)
    return 1 - depth * (0.5 + 0.5 * np.cos(2 * np.pi * np.cumsum(rate) / RATE))


def _syllables(way, melody, edges, vowel, rng):
    """Yield (start, end, pitch, vowel) of each note, of speech: of each syllable."""
    for (pitch, _), start, end in zip(melody, edges, edges[1:], strict=False):
        count = max(1, round((end - start) / (0.3 * RATE))) if way.motion == "spoken" else 1
        bounds = np.linspace(start, end, count + 1).astype(int)
        for low, high in zip(bounds, bounds[1:], strict=False):
            yield low, high, pitch, vowel
            if way.motion == "spoken":
                vowel = str(rng.choice(list(VOWELS)))


def _tract(singer, way, formants, pitch):
    """Resonators in cascade (Klatt, JASA 1980), as second-order sections; first three formants."""
    formants = np.array([*formants, *UPPER]) * singer.tract
    formants[2:5] += way.ring * (formants[3] - formants[2:5])
    if way.motion != "fry":  # high notes open the mouth: the first formant follows the pitch
        formants[0] = max(formants[0], 440 * 2 ** ((pitch - 69) / 12))
        formants[1] = max(formants[1], 1.2 * formants[0])
    radius = np.exp(-np.pi * BANDWIDTHS * singer.widths / RATE)
    b, c = 2 * radius * np.cos(2 * np.pi * formants / RATE), -(radius**2)
    zero, one = np.zeros(len(b)), np.ones(len(b))
    return np.stack([1 - b - c, zero, zero, one, -b, -c], axis=1)


def _fade(size, rng):
    """Factor of every sample: a smooth onset and offset."""
    time = np.arange(size)
    rise, fall = RATE * rng.uniform((0.02, 0.04), (0.08, 0.15))
    rise, fall = min(rise, size / 2), min(fall, size / 2)
    share = np.minimum(1, np.minimum((time + 0.5) / rise, (size - time - 0.5) / fall))
    return np.sin(np.pi / 2 * share) ** 2
