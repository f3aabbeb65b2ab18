"""Rendered notes and the singing voice agree with their labels."""

import librosa
import numpy as np
import pytest
from scipy import signal

from speechbrain_music.data_prep.replica.genres import POOLS
from speechbrain_music.data_prep.replica.notes import FAMILIES, VELOCITIES, make_note, playable
from speechbrain_music.data_prep.replica.synth import RATE, load_bank
from speechbrain_music.data_prep.replica.voice import TECHNIQUES, VOWELS, make_singer, sing

BANK = load_bank()


def singers(count):
    return [make_singer(f"s{index}", np.random.default_rng([5, index])) for index in range(count)]


def sung(technique, seed, pitch=57, seconds=2.0):
    rng = np.random.default_rng([6, seed])
    return sing(singers(seed + 1)[seed], technique, [(pitch, seconds)], "a", rng)


def track(wave, low=60.0, high=1400.0, frame=1024):
    """MIDI pitch every 10 ms, by YIN; the first and last 0.15 s are left out."""
    middle = wave[int(0.15 * RATE) : -int(0.15 * RATE)]
    hertz = librosa.yin(
        middle, fmin=low, fmax=high, sr=RATE, frame_length=frame, hop_length=240, center=False
    )
    return librosa.hz_to_midi(hertz)


def test_families_and_pools_hold_out_the_same_programs():
    pools = [{p for pool in POOLS.values() for p in pool[kind]} for kind in (0, 1)]
    known, held = ({p for family in FAMILIES.values() for p in family[kind]} for kind in (0, 1))
    assert not known & pools[1] and not held & pools[0]
    assert sum(len(a) + len(b) for a, b, _ in FAMILIES.values()) == len(known | held)
    assert 0.25 <= len(held) / len(known | held) <= 0.35


def test_pitch_of_notes_agrees_with_the_label():
    """YIN within 50 cents on 85% or more.

    YIN fails on organs (16 to 19), which sound the octave below as well, and on celesta,
    glockenspiel and xylophone (8, 9, 13), whose partials are not harmonic.
    """
    right, missed, rng = [], set(), np.random.default_rng(1)
    for family, (*_, (low, high)) in FAMILIES.items():
        for number in range(4):
            pitch = int(rng.integers(max(40, low), min(84, high) + 1))
            able = playable(BANK, family, number % 3 == 0)
            program = int(rng.choice([p for p, pitches in able.items() if pitch in pitches]))
            wave = make_note(rng, BANK, program, pitch, int(rng.choice(VELOCITIES)))
            found = np.median(track(wave[: round(0.8 * RATE)], high=2000.0, frame=2048))
            right.append(abs(found - pitch) <= 0.5)
            missed |= set() if right[-1] else {program}
    assert np.mean(right) >= 0.85
    assert missed <= {16, 17, 18, 19, 8, 9, 13}


def test_every_family_sounds_at_all_velocities():
    rng = np.random.default_rng(2)
    for family, (*_, (low, high)) in FAMILIES.items():
        for held_out in (False, True):
            pitches = playable(BANK, family, held_out)
            program = int(rng.choice([p for p in pitches if pitches[p]]))
            pitch = pitches[program][-1 if held_out else 0]
            wave = make_note(rng, BANK, program, pitch, int(rng.choice(VELOCITIES)))
            assert low <= pitch <= high and wave.shape == (4 * RATE,) and wave.dtype == np.float32
            assert np.isfinite(wave).all() and 1e-3 < np.abs(wave).max() <= 0.97


def test_pitch_of_singing_agrees_with_the_label():
    """YIN within 50 cents on 95% or more."""
    right = []
    for index, singer in enumerate(singers(10)):
        rng = np.random.default_rng([7, index])
        for technique in ("straight", "vibrato", "breathy", "belt"):
            pitch = int(rng.integers(singer.lowest, singer.highest + 1))
            wave = sing(singer, technique, [(pitch, 1.0)], str(rng.choice(list(VOWELS))), rng)
            right.append(abs(np.median(track(wave)) - pitch) <= 0.5)
    assert np.mean(right) >= 0.95
    melody = [(55, 0.8), (62, 0.8)]
    found = track(sing(singers(1)[0], "straight", melody, "e", np.random.default_rng(0)))
    assert abs(np.median(found[:40]) - 55) < 0.3 and abs(np.median(found[-40:]) - 62) < 0.3


def test_singers_differ_in_timbre():
    """Nearest centroid of MFCC without level: 60% of notes by five singers."""
    rng = np.random.default_rng(9)

    def timbre(singer, vowel):
        pitch = int(rng.integers(52, 63))
        wave = sing(singer, str(rng.choice(["straight", "vibrato"])), [(pitch, 1.0)], vowel, rng)
        return librosa.feature.mfcc(y=wave, sr=RATE, n_mfcc=20)[1:].mean(1)

    train, test = (
        np.array([[timbre(s, v) for v in "aiu" for _ in range(2)] for s in singers(5)])
        for _ in range(2)
    )
    distances = np.linalg.norm((test[:, :, None] - train.mean(1)) / train.std((0, 1)), axis=-1)
    assert np.mean(distances.argmin(-1) == np.arange(5)[:, None]) >= 0.6


def pitch_spread(technique, seed):
    """Standard deviation in semitones."""
    return np.std(track(sung(technique, seed), 160.0, 340.0))


def pitch_slope(technique, seed):
    """Semitones per second."""
    found = track(sung(technique, seed, seconds=1.5))
    return 100 * np.polyfit(np.arange(len(found)), found, 1)[0]


def brightness(technique, seed):
    """Spectral centroid, relative to straight singing."""
    waves = sung(technique, seed), sung("straight", seed)
    found = [librosa.feature.spectral_centroid(y=wave, sr=RATE).mean() for wave in waves]
    return found[0] / found[1]


def noise(technique, seed):
    """Share of the energy from 300 to 6000 Hz away from the harmonics, in dB over straight."""
    shares = []
    for wave in (sung(technique, seed), sung("straight", seed)):
        middle = wave[RATE // 4 : -RATE // 4]
        power = np.abs(np.fft.rfft(middle * np.hanning(len(middle)))) ** 2
        hertz = np.fft.rfftfreq(len(middle), 1 / RATE)
        harmonic = hertz / librosa.midi_to_hz(57)
        band = (hertz > 300) & (hertz < 6000)
        between = band & (np.abs(harmonic - np.rint(harmonic)) > 0.3)
        shares.append(power[between].sum() / power[band].sum())
    return 10 * np.log10(shares[0] / shares[1])


def pulse_rate(technique, seed):
    """Glottal pulses per second."""
    wave = sung(technique, seed)
    energy = np.convolve(wave**2, np.hanning(96), "same")[RATE // 4 : -RATE // 4]
    pulses, _ = signal.find_peaks(10 * np.log10(energy), prominence=8, distance=RATE // 100)
    return RATE / np.median(np.diff(pulses))


def envelope(wave):
    """RMS of every 5 ms."""
    return np.sqrt(np.mean(wave[: len(wave) // 120 * 120].reshape(-1, 120) ** 2, axis=1))


def loudness_rate(technique, seed):
    """The strongest modulation of the envelope in Hz."""
    found = envelope(sung(technique, seed))[60:-60]
    return np.fft.rfftfreq(len(found), 0.005)[np.argmax(np.abs(np.fft.rfft(found - found.mean())))]


def acceleration(technique, seed):
    """First distances of loudness pulses, relative to the last."""
    found = envelope(sung(technique, seed, seconds=3.0))
    gaps = np.diff(signal.find_peaks(-found, prominence=0.3 * found.max())[0])
    return np.median(gaps[:3]) / np.median(gaps[-3:])


@pytest.mark.parametrize(
    ("technique", "measure", "low", "high"),
    [
        ("straight", pitch_spread, 0, 0.15),
        ("vibrato", pitch_spread, 0.2, 1),
        ("trill", pitch_spread, 0.35, 1.2),
        ("spoken", pitch_slope, -20, -2),
        ("belt", brightness, 1.1, 3),
        ("breathy", noise, 6, 60),
        ("inhaled", noise, 9, 60),
        ("vocal_fry", pulse_rate, 30, 70),
        ("lip_trill", loudness_rate, 15, 35),
        ("trillo", acceleration, 1.5, 10),
    ],
)
def test_techniques_sound_as_named(technique, measure, low, high):
    assert low <= np.mean([measure(technique, seed) for seed in range(4)]) <= high


def test_every_technique_gives_a_finite_wave_below_full_scale():
    rng = np.random.default_rng(0)
    for technique in TECHNIQUES:
        wave = sing(make_singer("s", rng), technique, [(55, 0.3), (59, 0.05)], "o", rng)
        assert wave.dtype == np.float32 and np.isfinite(wave).all()
        assert 1e-3 < np.abs(wave).max() <= 0.97
