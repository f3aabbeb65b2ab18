"""Describe a model or a file of embeddings.

sbmusic info    # the small encoder that this package ships
sbmusic info results/brn_sum/1234/export
sbmusic info USER/NAME
sbmusic info music.npz
"""

from pathlib import Path

from speechbrain_music.inference.cli.embed import add_classes
from speechbrain_music.utils.errors import escaped


def add_arguments(parser):
    """Add the argument of `sbmusic info`."""
    parser.add_argument(
        "source", nargs="?", metavar="MODEL", help="export, its hub id, or embeddings"
    )
    add_classes(parser)


def run(args):
    """Print the metadata of `args.source`."""
    path = Path(args.source or "")
    metadata = _embeddings(path) if path.is_file() else _model(args.source, args.classes)
    for title, text in metadata.items():
        print(f"{title:14} {escaped(text)}")


def _model(source, classes):
    from speechbrain_music.inference.encoder import MusicEncoder
    from speechbrain_music.reporting.model_card import encoder_metadata

    encoder = MusicEncoder.from_export(source, device="cpu", classes=classes)
    return encoder_metadata(encoder.model) | {"fingerprint": encoder.fingerprint}


def _embeddings(path):
    from speechbrain_music.inference.embeddings import read_embeddings

    paths, durations, values, settings = read_embeddings(path, unpooled=True)
    return {
        "embeddings": f"{len(paths)} files, {durations.sum() / 3600:.2f} h",
        "shape": " x ".join(map(str, values.shape)),
        "first": paths[0],
        "last": paths[-1],
        "model": f"{settings['source']} ({settings['model']})",
        "layers": f"{settings['layers']} (0 is the front-end)",
        "pool": settings["pool"],
        "chunk": f"{settings['chunk']} s, overlap {settings['overlap']} s",
    }
