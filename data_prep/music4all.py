"""Read Music4All: all clips with their artists."""

from speechbrain_music.data_prep import data_set, files


def read_music4all(data_folder, out=None):
    """Clips with their artists, without split."""
    files.locate(data_folder, "Music4All", (("id_information.csv",), ("",)))
    table = files.read_table(data_folder / "id_information.csv", ("id", "artist"), delimiter="\t")
    items = [
        data_set.Item(row["id"], f"audios/{row['id']}.mp3", None, (row["artist"],)) for row in table
    ]
    return data_set.Annotations(items)
