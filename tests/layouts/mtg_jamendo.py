"""MTG-Jamendo: `audio/14/214.mp3`, 44.1 kHz stereo, tracks of 30 s and more, and raw_30s.tsv.

The table's line ends have two characters, and its tags fill as many columns as there are.
"""

from speechbrain_music.data_prep.mtg_jamendo import COLUMNS
from speechbrain_music.data_prep.replica.trees import Tree, render_song, scaled, song_keys

TRACKS = 55701
SHORTEST, LONGEST = 30.5, 60.0  # seconds


def plan(scale, seed):
    """The tree at a share of the published tracks; two or more, without splits."""
    lines, sounds = ["\t".join(COLUMNS)], []
    count = scaled({"tracks": TRACKS}, scale, least=2)["tracks"]
    for artist, key in song_keys(seed, count, 1, SHORTEST, LONGEST):
        _, genre, _, (index,), seconds = key
        number = 214 + 11 * index
        path = f"{number % 100:02d}/{number}.mp3"
        cells = [f"track_{number:07d}", f"artist_{artist:06d}", f"album_{artist:06d}", path]
        cells += [f"{seconds}", f"genre---{genre}", "instrument---synthesizer"]
        lines.append("\t".join(cells))
        sounds.append((f"audio/{path}", key))
    texts = {"data/raw_30s.tsv": "\r\n".join([*lines, ""])}
    folders = tuple(sorted({path.rpartition("/")[0] for path, _ in sounds}))
    return Tree({}, texts, sounds, render_song, 44100, channels=2, folders=folders)
