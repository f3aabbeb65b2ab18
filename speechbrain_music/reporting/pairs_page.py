"""A page of pairs of tracks, to listen to and to look at."""

import base64
import io
from pathlib import Path

from matplotlib.figure import Figure

from speechbrain_music.dataio.audio import AudioError
from speechbrain_music.models.frontend import TOKEN_RATE
from speechbrain_music.reporting.annotation_picture import IMAGE, spectrogram
from speechbrain_music.reporting.pages import TEMPLATES, render
from speechbrain_music.utils.errors import escaped


def pairs_page(title, pairs):
    """The text of an HTML page: `pairs` are (similarity, path, path).

    Each track has a player and its spectrogram; a file that cannot be read has its reason instead.
    Audio is linked, not copied.
    """
    found = {path: _track(path) for path in {path for _, *paths in pairs for path in paths}}
    tracks = [(similarity, list(map(found.get, paths))) for similarity, *paths in pairs]
    return render(TEMPLATES / "pairs.html", title=escaped(title), pairs=tracks)


def _track(path):
    try:
        mel, limits = spectrogram(path)
    except AudioError as error:
        return {"fault": escaped(error)}
    figure, file = Figure(figsize=(12, 1.5), layout="constrained"), io.BytesIO()
    axes = figure.subplots()
    axes.imshow(mel, extent=(0, mel.shape[1] / TOKEN_RATE, 0, 1), **limits, **IMAGE)
    axes.set_yticks([])
    figure.savefig(file, format="png", dpi=60)
    image = base64.b64encode(file.getvalue()).decode()
    source = Path(path).absolute().as_uri()
    return {"fault": None, "name": escaped(path), "source": source, "image": image}
