"""What a model, a file of embeddings or an audio file is.

sbmusic info results/brn_sum/1234/export
sbmusic info USER/NAME
sbmusic info music.npz
"""

from pathlib import Path


def add_arguments(parser):
    """The options of `sbmusic info`.

    Example
    -------
    >>> from argparse import ArgumentParser
    >>> add_arguments(parser := ArgumentParser())
    >>> parser.parse_args(["me/mine"])
    Namespace(source='me/mine')
    """
    parser.add_argument(
        "source", metavar="MODEL", help="export, its name on the hub, embeddings, or audio"
    )


def run(args):
    """Prints what it is.

    Example
    -------
    >>> import numpy, soundfile, tempfile
    >>> from argparse import Namespace
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     soundfile.write(f"{folder}/a.wav", numpy.zeros((24000, 2)), 48000)
    ...     run(Namespace(source=f"{folder}/a.wav"))
    audio          0.50 s
    rate           48000 Hz
    channels       2
    """
    from speechbrain_music.inference.store import KINDS

    path = Path(args.source)
    if path.is_file() and path.suffix in KINDS:
        facts = _embeddings(path)
    elif path.is_file():
        facts = _audio(path)
    else:
        facts = _model(args.source)
    for title, text in facts.items():
        print(f"{title:14} {text}")


def _model(source):
    from speechbrain_music.inference.cli.models import load_model
    from speechbrain_music.inference.collection import fingerprint
    from speechbrain_music.inference.facts import facts_of

    encoder = load_model(source, device="cpu")
    return facts_of(encoder.model) | {"fingerprint": fingerprint(encoder)}


def _embeddings(path):
    from speechbrain_music.inference.store import read_embeddings

    paths, durations, values, settings = read_embeddings(path)
    return {
        "embeddings": f"{len(paths)} files, {durations.sum() / 3600:.2f} h",
        "shape": " x ".join(map(str, values.shape)),
        "first": paths[0],
        "last": paths[-1],
        "model": f"{settings['source']} ({settings['model']})",
        "layers": settings["layers"],
        "pool": settings["pool"],
        "chunk": f"{settings['chunk']} s, overlap {settings['overlap']} s",
    }


def _audio(path):
    from speechbrain_music.dataio.audio import audio_info

    header = audio_info(path)
    return {
        "audio": f"{header.seconds:.2f} s",
        "rate": f"{header.sample_rate} Hz",
        "channels": header.channels,
    }
