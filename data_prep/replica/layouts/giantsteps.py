"""GiantSteps key: two repositories, `<id>.LOFI.mp3` at 44.1 kHz, one key per track.

Tracks last 60 to 95 s (the original's: two minutes), so two or three clips each. Artists are named
so that the published rule gives the published counts; some make music together.
"""

from itertools import count

from speechbrain_music.data_prep.giantsteps import KEY_SET, MTG_SET, TONICS, artist_splits
from speechbrain_music.data_prep.replica.draws import PLAN, keyed
from speechbrain_music.data_prep.replica.theory import MODES
from speechbrain_music.data_prep.replica.trees import Tree, published, render_song

GENRES = ("disco", "hiphop", "pop")  # nearest to electronic dance music
SHARPS = dict(zip(TONICS, "C C# D D# E F F# G G# A A# B".split(), strict=True))
LEFT_OUT = 327  # tracks of the second set without one certain key
SHORTEST, LONGEST = 60.5, 95.0  # seconds
PER_ARTIST = 3


def plan(scale, seed):
    """The tree at a share of the published counts; one track per split or more."""
    rng = keyed(seed, PLAN)
    counts = published("giantsteps", scale)
    texts, sounds = {}, []

    def add_track(number, folder, part, artist):
        tonic, mode = int(rng.integers(12)), MODES[int(rng.random() < 0.6)]
        seconds = round(rng.uniform(SHORTEST, LONGEST), 2)
        key = (seed, GENRES[artist % len(GENRES)], (part, artist), (part, number), seconds)
        sounds.append((f"{folder}/audio/{number}.LOFI.mp3", (*key, part == 2, tonic, mode)))
        return TONICS[tonic], mode

    for index in range(counts["test"]):
        number = 2010089 + 7 * index  # apart from those of the other set
        tonic, mode = add_track(number, KEY_SET, 2, index // PER_ARTIST)
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
            tonic, mode = add_track(number, MTG_SET, ("train", "valid").index(split), group)
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
    return Tree({"published": counts}, texts, sounds, render_song, 44100)
