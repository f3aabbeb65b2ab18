"""GuitarSet: chords and beats of 360 excerpts of solo guitar, by six players."""

from speechbrain_music.data_prep import data_set, files, frames

PLAYERS = 6


def read_guitarset(data_folder, out=None, player=0):
    """Excerpts, recorded by the microphone; a JAMS has beats and chords."""
    needs = (("0[0-5]_*.jams",), ("annotation", "annotations", ""))
    place = files.locate(data_folder, "GuitarSet", needs)[0]
    found = frames.annotations_in(data_folder, place, (".jams",))
    fold_of = {key: int(key[:2]) for key in found if key[:2].isdigit()}
    artists = {key: key[:2] for key in found}
    found = {"chords": found, "beats": found}
    items = frames.fold_items(data_folder, found, fold_of, player, PLAYERS, artists, stem="{}_mic")
    return data_set.Annotations(items, settings={"player": player})
