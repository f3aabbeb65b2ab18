"""MTG-Jamendo: `audio/14/214.mp3`, 44.1 kHz stereo, tracks of 30 s and more, and raw_30s.tsv with
line ends of two characters, whose tags fill as many columns as there are."""

from speechbrain_music.data_prep.mtg_jamendo import COLUMNS
from speechbrain_music.data_prep.replica.corpus import keyed
from speechbrain_music.data_prep.replica.genres import GENRES
from speechbrain_music.data_prep.replica.trees import PLAN, Tree, scaled, song, style

TRACKS = 55701
SHORTEST, LONGEST = 30.5, 60.0
PER_ARTIST = 3


def plan(scale, seed):
    """The tree; see `make_replica`.

    Arguments
    ---------
    scale : float
        Share of the published tracks; two or more.
    seed : int
        Of lengths and music.

    Returns
    -------
    Tree
        Without counts, for there are no splits.

    Example
    -------
    >>> tree = plan(0.0001, seed=0)
    >>> len(tree.sounds), tree.sounds[0][0]
    (6, 'audio/14/214.mp3')
    >>> tree.texts["data/raw_30s.tsv"].split("\\r\\n")[1].split("\\t")[5:]
    ['genre---blues', 'instrument---synthesizer']
    """
    lines, sounds = ["\t".join(COLUMNS)], []
    for index in range(scaled({"tracks": TRACKS}, scale, least=2)["tracks"]):
        number, artist = 214 + 11 * index, index // PER_ARTIST
        genre = list(GENRES)[artist % len(GENRES)]
        seconds = round(keyed(seed, PLAN, index).uniform(SHORTEST, LONGEST), 1)
        path = f"{number % 100:02d}/{number}.mp3"
        cells = [f"track_{number:07d}", f"artist_{artist:06d}", f"album_{artist:06d}", path]
        cells += [f"{seconds}", f"genre---{genre}", "instrument---synthesizer"]
        lines.append("\t".join(cells))
        sounds.append((f"audio/{path}", (seed, genre, artist, index, seconds)))
    texts = {"data/raw_30s.tsv": "\r\n".join([*lines, ""])}
    folders = tuple(sorted({path.rpartition("/")[0] for path, _ in sounds}))
    return Tree({}, texts, sounds, render, 44100, channels=2, folders=folders)


def render(attempt, seed, genre, artist, index, seconds):
    """A track.

    Arguments
    ---------
    attempt : int
        Another one gives another track.
    seed, artist, index : int
        Of the replica, its artist and its track.
    genre : str
        A key of `GENRES`.
    seconds : float
        Length.

    Returns
    -------
    numpy.ndarray
        (samples,) float32 at 24 kHz.

    Example
    -------
    >>> render(0, 0, "jazz", 5, 15, 1.25).shape
    (30000,)
    """
    return song(style(genre, seed, artist), seconds, seed, index, attempt)
