"""Read MagnaTagATune: clips with the 50 most frequent tags."""

from pathlib import Path, PurePosixPath

import yaml

from speechbrain_music.data_prep import data_set, files

TAGS = tuple(yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")))
FOLDERS = dict.fromkeys("0123456789ab", "train") | {"c": "valid"} | dict.fromkeys("def", "test")
UNREADABLE = frozenset({"35644", "55753", "57881"})  # in every copy
PLACES = ("mp3", "", "audio", "wav", "flac")
CLIPS = ("[0-9a-f]", *files.AUDIO)  # folders, or all in one


def read_magnatagatune(data_folder, out=None, tagged_only=False):
    """Clips that can be read; `tags` are joined by "|", in the order of `TAGS`."""
    needs = (("annotations_final.csv",), ("", "annotations", "mp3")), (CLIPS, PLACES)
    place, audio = files.locate(data_folder, "MagnaTagATune", *needs)
    table = data_folder / place / "annotations_final.csv"
    items = []
    for row in files.read_table(table, ("clip_id", *TAGS, "mp3_path"), delimiter="\t"):
        path = PurePosixPath(row["mp3_path"])
        if path.parent.name not in FOLDERS:
            what = f"has the path {row['mp3_path']!r}, which is in none of the folders 0 to f"
            raise files.damaged(table, what)
        tags = [tag for tag in TAGS if row[tag] == "1"]
        if row["clip_id"] not in UNREADABLE and (tags or not tagged_only):
            wav, split = PurePosixPath(audio, path).as_posix(), FOLDERS[path.parent.name]
            items.append(data_set.Item(row["clip_id"], wav, split, (data_set.SEVERAL.join(tags),)))
    variant = "tagged" if tagged_only else "published"
    left_out = "unreadable as published: " + ", ".join(sorted(UNREADABLE))
    settings = {"tagged_only": tagged_only}
    return data_set.Annotations(items, settings, variant, {"left_out": left_out})
