"""Overlapping chunks of long audio: what is encoded at once, and what of it is kept."""

from typing import NamedTuple


class ChunkSpan(NamedTuple):
    """Token ranges of one chunk: `context` is encoded, `keep` is the part of it that is used."""

    context: range
    keep: range


def plan_chunks(tokens, chunk=None, overlap=0):
    """Divide a file into chunks such that every token is kept exactly once.

    Of the tokens that two neighbours share, each chunk keeps those that lie farther from its own
    edge. A last chunk shorter than a quarter of `chunk` starts earlier, so that it has context.
    Lengths are in tokens; without `chunk` the whole file is one chunk.
    """
    if chunk is None or tokens <= chunk:
        return [ChunkSpan(range(tokens), range(tokens))]
    starts = list(range(0, tokens - overlap, chunk - overlap))
    starts[-1] = min(starts[-1], tokens - -(-chunk // 4))
    stops = [min(start + chunk, tokens) for start in starts]
    cuts = [(start + stop) // 2 for start, stop in zip(starts[1:], stops, strict=False)]
    keeps = zip([0, *cuts], [*cuts, tokens], strict=True)
    contexts = zip(starts, stops, strict=True)
    return [ChunkSpan(range(*c), range(*k)) for c, k in zip(contexts, keeps, strict=True)]
