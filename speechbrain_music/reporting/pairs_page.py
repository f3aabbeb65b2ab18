"""A page of pairs of tracks, to listen to and to look at."""

import base64
import io
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from speechbrain_music.dataio.audio import AudioError
from speechbrain_music.models.frontend import TOKEN_RATE
from speechbrain_music.reporting.annotation_picture import IMAGE, spectrogram
from speechbrain_music.utils.errors import escaped

HEAD = """<!doctype html><meta charset="utf-8"><title>Pairs</title>
<style>body{font-family:sans-serif;max-width:60em;margin:2em auto}img,audio{width:100%}
figure{margin:0 0 1em}section{border-top:1px solid #aaa}</style>
"""


def pairs_page(title, pairs):
    """The text of an HTML page: `pairs` are (similarity, path, path).

    Each track has a player and its spectrogram; a file that cannot be read has its reason instead.
    Audio is linked, not copied.
    """
    sections = []
    for place, (similarity, *paths) in enumerate(pairs, start=1):
        tracks = "".join(map(_figure, paths))
        sections.append(
            f"<section><h2>{place}. similarity {similarity:.4f}</h2>{tracks}</section>\n"
        )
    return f"{HEAD}<h1>{escape(escaped(title))}</h1>\n{''.join(sections)}"


def _figure(path):
    try:
        mel, limits = spectrogram(path)
    except AudioError as error:
        return f"<p>{escape(escaped(str(error)))}</p>"
    figure, file = Figure(figsize=(12, 1.5), layout="constrained"), io.BytesIO()
    axes = figure.subplots()
    axes.imshow(mel, extent=(0, mel.shape[1] / TOKEN_RATE, 0, 1), **limits, **IMAGE)
    axes.set_yticks([])
    figure.savefig(file, format="png", dpi=100)
    image = base64.b64encode(file.getvalue()).decode()
    source = escape(Path(path).absolute().as_uri())
    return (
        f"<figure><figcaption>{escape(escaped(path))}</figcaption>"
        f'<audio controls preload="none" src="{source}"></audio>'
        f'<img alt="spectrogram" src="data:image/png;base64,{image}"></figure>'
    )
