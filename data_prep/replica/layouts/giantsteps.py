"""GiantSteps key: two repositories, `<id>.LOFI.mp3` at 44.1 kHz, one key a track.

Tracks last 60 to 95 s where the original's last two minutes: two or three clips each. Artists are
named so that the published rule gives the published counts; some make music together.
"""

from itertools import count

from speechbrain_music.data_prep.giantsteps import (
    COUNTS,
    KEY_SET,
    MTG_SET,
    TONICS,
    artist_splits,
)
from speechbrain_music.data_prep.replica.corpus import keyed
from speechbrain_music.data_prep.replica.theory import MODES
from speechbrain_music.data_prep.replica.trees import PLAN, Tree, scaled, song, style

GENRES = ("disco", "hiphop", "pop")  # what is nearest to electronic dance music
SHARPS = dict(zip(TONICS, "C C# D D# E F F# G G# A A# B".split(), strict=True))
LEFT_OUT = 327  # tracks of the second set without one sure key
SHORTEST, LONGEST = 60.5, 95.0
PER_ARTIST = 3


def plan(scale, seed):
    """The tree; see `make_replica`.

    Arguments
    ---------
    scale : float
        Share of the published counts; one track a split or more.
    seed : int
        Of keys, lengths and music.

    Returns
    -------
    Tree

    Example
    -------
    >>> tree = plan(0.001, seed=0)
    >>> tree.counts["published"], all(SHORTEST <= key[4] <= LONGEST for _, key in tree.sounds)
    ({'train': 1, 'valid': 1, 'test': 1}, True)
    >>> _, (*_, number, _, tonic, mode) = tree.sounds[0]  # what is annotated is composed
    >>> text = tree.texts[f"{KEY_SET}/annotations/key/{number}.LOFI.key"]
    >>> text.split() == [TONICS[tonic], mode]
    True
    """
    rng = keyed(seed, PLAN)
    counts = scaled(COUNTS, scale)
    texts, sounds = {}, []

    def track(number, folder, part, artist):
        tonic, mode = int(rng.integers(12)), MODES[int(rng.random() < 0.6)]
        seconds = round(rng.uniform(SHORTEST, LONGEST), 2)
        key = (seed, part, artist, number, seconds, tonic, mode)
        sounds.append((f"{folder}/audio/{number}.LOFI.mp3", key))
        return TONICS[tonic], mode

    for index in range(counts["test"]):
        number = 2010089 + 7 * index  # apart from those of the other set
        tonic, mode = track(number, KEY_SET, 2, index // PER_ARTIST)
        texts[f"{KEY_SET}/annotations/key/{number}.LOFI.key"] = f"{tonic} {mode}\t\n"
    names = ["ID\tARTIST\tSONG TITLE\tMIX\tLABEL\tBP GENRE\tBP BPM\tBP KEY\n"]
    keys = ["ID\tMANUAL KEY\tC\n"]
    wanted = {split: counts[split] for split in ("train", "valid")}
    spare = round(scale * LEFT_OUT)
    for group in count():
        credits = [[f"Artist {group}"], [f"Artist {group}", f"Friend {group}"], [f"Friend {group}"]]
        split = artist_splits(credits)[f"Artist {group}"]
        for index in range(PER_ARTIST):
            number = 5061 + 11 * (group * PER_ARTIST + index)
            sure = wanted[split] > 0
            if not sure and not spare:
                continue
            tonic, mode = track(number, MTG_SET, ("train", "valid").index(split), group)
            if sure:
                wanted[split] -= 1
                keys.append(f"{number}\t{SHARPS[tonic]} {mode}\t2\n")
            else:
                spare -= 1
                text = ("-\t0", f"{SHARPS[tonic]} {mode}\t1", "C minor / F# minor\t2")[spare % 3]
                keys.append(f"{number}\t{text}\n")
            artist = ", ".join(credits[index])
            names.append(f'{number}\t{artist}\tSay "{index}\t12" Mix\tOwn\tHouse\t120\tC min\n')
        if not (any(wanted.values()) or spare):
            break
    texts[f"{MTG_SET}/annotations/annotations.txt"] = "".join(keys)
    texts[f"{MTG_SET}/annotations/beatport_metadata.txt"] = "".join(names)
    return Tree({"published": counts}, texts, sounds, render, 44100)


def render(attempt, seed, part, artist, number, seconds, tonic, mode):
    """A track that stays in its key.

    Arguments
    ---------
    attempt : int
        Another one gives another track in the same key.
    seed, part, artist, number : int
        Of the replica, its split (2: test), the split's artist and track.
    seconds : float
        Length.
    tonic : int
        0 to 11 from C on.
    mode : str
        `major` or `minor`.

    Returns
    -------
    numpy.ndarray
        (samples,) float32 at 24 kHz.

    Example
    -------
    >>> render(0, 0, 2, 0, 2010089, 1.0, 9, "minor").shape
    (24000,)
    >>> from unittest.mock import patch
    >>> with patch.dict(render.__globals__, song=lambda player, *_, tonic: (player.minor, tonic)):
    ...     render(0, 0, 2, 0, 2010089, 1.0, 9, "minor")  # surely in minor, on A
    (1.0, 9)
    """
    player = style(GENRES[artist % len(GENRES)], seed, part, artist, held_out=part == 2)
    player = player.__class__(**vars(player) | {"minor": float(mode == "minor")})
    return song(player, seconds, seed, part, number, attempt, tonic=tonic)
