"""Files of any length in chunks that an encoder hears at once, and chunks in batches."""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from speechbrain_music.dataio.audio import AudioError, audio_info, read_segments, resampled_length
from speechbrain_music.models.frontend import SAMPLES_PER_TOKEN, token_count

WINDOW = 4  # batches that are read before they are filled: enough to find chunks of like length


class Place(NamedTuple):
    """Tokens of a file: those heard, `start` to `stop`, and of them those kept, `first` to `last`.

    All `stop` and `last` are one past the end.

    Example
    -------
    >>> places = plan_chunks(25, chunk=10, overlap=4)
    >>> sum(p.stop - p.start for p in places), sum(p.last - p.first for p in places)
    (37, 25)
    """

    start: int
    stop: int
    first: int
    last: int


class Chunk(NamedTuple):
    """What is read of a file: a place and its wave, (n,) float32; or an error, which ends it.

    Example
    -------
    >>> Chunk("a.wav", 25, Place(8, 18, 9, 17)).kept
    slice(1, 9, None)
    """

    file: object  # what stands for it
    tokens: int = 0  # of the file, by its header
    place: Place = None
    wave: np.ndarray = None
    is_last: bool = True
    error: AudioError = None

    @property
    def kept(self):
        """Which of the tokens that are heard."""
        return slice(self.place.first - self.place.start, self.place.last - self.place.start)


def plan_chunks(tokens, chunk=None, overlap=0):
    """Where to cut a file, so that every token of the grid is kept once.

    Of two neighbours each keeps what lies farther from its own edge. The last chunk begins
    earlier than the others' spacing asks for if it would be shorter than a quarter of `chunk`: in
    a second of sound alone there is little to hear.

    Arguments
    ---------
    tokens : int
        Of the file, at least one.
    chunk : int, optional
        Tokens heard at once; None takes the file whole.
    overlap : int
        Tokens that neighbours share, fewer than `chunk`.

    Returns
    -------
    list of Place

    Example
    -------
    >>> [tuple(place) for place in plan_chunks(25, chunk=10, overlap=2)]
    [(0, 10, 0, 9), (8, 18, 9, 17), (16, 25, 17, 25)]
    >>> [tuple(place) for place in plan_chunks(21, chunk=10)]  # the last hears 3, not 1
    [(0, 10, 0, 10), (10, 20, 10, 19), (18, 21, 19, 21)]
    """
    if chunk is None or tokens <= chunk:
        return [Place(0, tokens, 0, tokens)]
    starts = list(range(0, tokens - overlap, chunk - overlap))
    starts[-1] = min(starts[-1], tokens - -(-chunk // 4))
    stops = [min(start + chunk, tokens) for start in starts]
    cuts = [(start + stop) // 2 for start, stop in zip(starts[1:], stops, strict=False)]
    places = zip(starts, stops, [0, *cuts], [*cuts, tokens], strict=True)
    return [Place(*place) for place in places]


def read_chunks(file, path, chunk=None, overlap=0):
    """A file's chunks in turn, the last of them marked.

    Arguments
    ---------
    file : object
        What stands for the file; is given back with each chunk.
    path : path
        Where it is.
    chunk, overlap : int
        As `plan_chunks` takes them.

    Yields
    ------
    Chunk
        Where a file ends before its header says, so do its chunks. A file that cannot be read, or
        not to its end, ends with an error.

    Example
    -------
    >>> import soundfile
    >>> path = getfixture("tmp_path") / "silence.wav"
    >>> soundfile.write(path, np.zeros(24001), 24000)
    >>> [(len(chunk.wave), chunk.is_last) for chunk in read_chunks(None, path, chunk=20)]
    [(19200, False), (4801, True)]
    """
    try:
        info = audio_info(path)
        tokens = token_count(resampled_length(info.frames, info.sample_rate))
        places = plan_chunks(max(tokens, 1), chunk, overlap)
        parts = [
            (place.start * SAMPLES_PER_TOKEN, (place.stop - place.start) * SAMPLES_PER_TOKEN)
            for place in places
        ]
        ready = None
        for place, wave in zip(places, read_segments(path, parts), strict=True):
            stop = place.start + token_count(len(wave))
            if stop > place.first:
                if ready:
                    yield ready
                place = place._replace(stop=stop, last=min(place.last, stop))
                ready = Chunk(file, tokens, place, wave, is_last=False)
        if ready is None:
            raise AudioError(f"{path}: is too short for one sample at 24 kHz; remove it.")
        yield ready._replace(is_last=True)
    except AudioError as error:
        yield Chunk(file, error=error)


def in_windows(chunks, budget):
    """Groups consecutive chunks, of `WINDOW` times as many tokens as a batch may cost.

    Example
    -------
    >>> chunks = [Chunk(None, n, Place(0, n, 0, n)) for n in (5, 5, 5, 9, 30, 2)]
    >>> [len(window) for window in in_windows(chunks, budget=4)]
    [4, 1, 1]
    """
    window, tokens = [], 0
    for chunk in chunks:
        window.append(chunk)
        tokens += _heard(chunk)
        if tokens >= WINDOW * budget:
            yield window
            window, tokens = [], 0
    if window:
        yield window


def in_batches(window, budget):
    """Chunks of like length side by side, their number times the longest within the budget.

    Arguments
    ---------
    window : list of Chunk
        Those with an error are left out.
    budget : int
        Tokens, padding included. A longer chunk is alone.

    Yields
    ------
    list of Chunk

    Example
    -------
    >>> chunks = [Chunk(None, n, Place(0, n, 0, n)) for n in (2, 10, 5, 4, 30)]
    >>> [[_heard(chunk) for chunk in batch] for batch in in_batches(chunks, budget=20)]
    [[30], [10, 5], [4, 2]]
    """
    batch = []
    for chunk in sorted((c for c in window if not c.error), key=_heard, reverse=True):
        if batch and (len(batch) + 1) * _heard(batch[0]) > budget:
            yield batch
            batch = []
        batch.append(chunk)
    if batch:
        yield batch


def ahead(items):
    """The same items; the next is made, in a thread, while one is worked on.

    Example
    -------
    >>> list(ahead("do re mi".split()))
    ['do', 're', 'mi']
    """
    items, end = iter(items), object()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield item


def _heard(chunk):
    return chunk.place.stop - chunk.place.start if chunk.place else 0
