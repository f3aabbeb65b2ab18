"""Trained encoders at work: embeddings of music of any length."""


def __getattr__(name):
    """`MusicEncoder`, when it is asked for: the command line answers --help without torch."""
    if name == "MusicEncoder":
        from speechbrain_music.inference.encoder import MusicEncoder

        return MusicEncoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
