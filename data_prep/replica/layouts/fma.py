"""FMA: `fma_large/000/000002.mp3`, 44.1 kHz stereo, and tracks.csv as it is: three header rows,
line breaks and quotes in cells."""

from speechbrain_music.data_prep.fma import COUNTS, SPLIT_NAMES
from speechbrain_music.data_prep.manifest import csv_text
from speechbrain_music.data_prep.replica.genres import GENRES
from speechbrain_music.data_prep.replica.trees import Tree, scaled, song, style

SECONDS = 30.0
PER_ARTIST = 3
SMALLEST = ("small", "medium", "large")
COLUMNS = {
    "album": "comments date_created date_released engineer favorites id information listens "
    "producer tags title tracks type",
    "artist": "active_year_begin active_year_end associated_labels bio comments date_created "
    "favorites id latitude location longitude members name related_projects tags website "
    "wikipedia_page",
    "set": "split subset",
    "track": "bit_rate comments composer date_created date_recorded duration favorites genre_top "
    "genres genres_all information interest language_code license listens lyricist number "
    "publisher tags title",
}


def plan(scale, seed):
    """The tree; see `make_replica`.

    Arguments
    ---------
    scale : float
        Share of the published counts; one track a split or more. The full set has those of the
        large one.
    seed : int
        Of the music.

    Returns
    -------
    Tree

    Example
    -------
    >>> tree = plan(0.0001, seed=0)
    >>> tree.counts["small"], tree.counts["large"]
    ({'train': 1, 'valid': 1, 'test': 1}, {'train': 8, 'valid': 1, 'test': 1})
    >>> len(tree.sounds), tree.sounds[0][0]
    (10, 'fma_large/000/000001.mp3')
    """
    names = [(group, name) for group, text in COLUMNS.items() for name in text.split()]
    heads = [["", *(group for group, _ in names)], ["", *(name for _, name in names)]]
    rows, sounds, counts, number = [], [], {}, 0
    least = dict.fromkeys(SPLIT_NAMES.values(), 0)
    for subset in SMALLEST:  # each holds the ones before it
        counts[subset] = scaled(COUNTS[subset], scale)
        for part, (spelled, split) in enumerate(SPLIT_NAMES.items()):
            for index in range(least[split], max(least[split], counts[subset][split])):
                number += 1 + (7 * number + part) % 3  # as in the original, some are missing
                artist = index // PER_ARTIST
                genre = list(GENRES)[(artist + part) % len(GENRES)]
                cells = {
                    ("artist", "bio"): f'<p>Plays {genre},\nsays "always",\r\nand means it.</p>',
                    ("artist", "id"): 10 * artist + part,
                    ("artist", "name"): f"{genre.title()} & Sons, No. {10 * artist + part}",
                    ("set", "split"): spelled,
                    ("set", "subset"): subset,
                    ("track", "duration"): round(SECONDS),
                    ("track", "genre_top"): genre.title(),
                    ("track", "license"): "made by rules",
                    ("track", "title"): f"Piece {index}",
                }
                rows.append([number, *(cells.get(name, "") for name in names)])
                path = f"fma_large/{number // 1000:03d}/{number:06d}.mp3"
                sounds.append((path, (seed, genre, part, artist, index)))
            least[split] = max(least[split], counts[subset][split])
    counts["full"] = counts["large"]
    table = csv_text([heads[1], ["track_id", *[""] * len(names)], *rows], heads[0])
    texts = {"fma_metadata/tracks.csv": table}
    return Tree(counts, texts, sounds, render, 44100, channels=2, folders=("fma_large",))


def render(attempt, seed, genre, part, artist, index):
    """A clip of 30 s.

    Arguments
    ---------
    attempt : int
        Another one gives another clip.
    seed, part, artist, index : int
        Of the replica, its split, the split's artist and clip.
    genre : str
        A key of `GENRES`.

    Returns
    -------
    numpy.ndarray
        (samples,) float32 at 24 kHz.

    Example
    -------
    >>> from unittest.mock import patch
    >>> with patch.dict(render.__globals__, SECONDS=1.0):  # 30 s take longer
    ...     a, same, b = (render(0, 0, "jazz", 0, 1, index) for index in (3, 3, 4))
    >>> a.shape, bool((a == same).all()), bool((a == b).all())
    ((24000,), True, False)
    """
    player = style(genre, seed, part, artist, held_out=part == 2)
    return song(player, SECONDS, seed, part, index, attempt)
