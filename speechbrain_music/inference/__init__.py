"""Inference: embeddings of music of any length from trained encoders."""


def __getattr__(name):
    """Import `MusicEncoder` on first use, so that `sbmusic --help` does not load torch."""
    if name == "MusicEncoder":
        from speechbrain_music.inference.encoder import MusicEncoder

        return MusicEncoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
