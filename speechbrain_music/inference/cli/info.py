"""The command `sbmusic info`."""

from pathlib import Path

from speechbrain_music.evaluation.results import read_layers
from speechbrain_music.inference.embeddings import read_embeddings
from speechbrain_music.inference.encoder import MusicEncoder
from speechbrain_music.reporting.model_card import encoder_metadata
from speechbrain_music.utils.errors import escaped


def run(args):
    """Print the metadata of `args.source`."""
    if (path := Path(args.source or "")).is_file():
        paths, durations, values, settings = read_embeddings(path, unpooled=True)
        metadata = {
            "embeddings": f"{len(paths)} files, {durations.sum() / 3600:.2f} h",
            "shape": " x ".join(map(str, values.shape)),
            "first": paths[0],
            "last": paths[-1],
            "model": f"{settings['source']} ({settings['model']})",
            "layers": f"{settings['layers']} (0 is the front-end)",
            "pool": settings["pool"],
            "chunk": f"{settings['chunk']} s, overlap {settings['overlap']} s",
        }
    else:
        encoder = MusicEncoder.from_export(args.source, device="cpu", classes=args.classes)
        metadata = encoder_metadata(encoder.model) | {"fingerprint": encoder.fingerprint}
        for task, layers in sorted(read_layers(args.results, encoder.fingerprint).items()):
            scores = ", ".join(f"{layer}: {value:.3f}" for layer, value in layers["valid"].items())
            kind = "composed " * bool(layers["replica"])
            metadata[task] = f"{layers['text']} on {layers['tracks']} {kind}tracks ({scores})"
    for title, text in metadata.items():
        print(f"{escaped(title):14} {escaped(text)}")
