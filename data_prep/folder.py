"""Read a folder of music or speech: every file by its extension, except `files.JUNK`."""

from speechbrain_music.data_prep import data_set, files

_SHOWN = 20  # extensions in the report


def read_folder(data_folder, out=None):
    """Files without split; `other_files` of the report counts others by their extension."""
    names, unlisted, others = files.find_audio(data_folder)
    if not names and not unlisted:
        raise files.no_audio(data_folder, others)
    items = [data_set.Item(name, name, None, ()) for name in names]
    extra = {"other_files": dict(sorted(others.most_common(_SHOWN)))}
    # No counts are expected: of a replica's folder, too, any part is taken.
    return data_set.Annotations(items, variant="", extra=extra)
