"""Read beats: any folder with `.beats` files or JAMS, in folds or split by GTZAN's lists."""

import re
from pathlib import PurePath

from speechbrain_music.data_prep import data_set, files, frames, gtzan
from speechbrain_music.dataio import annotations

FOLDS, FILES = 8, {"folds": "8-folds.split", "single": "single.split", "marble": "none"}
_CLIP = re.compile(rf"(?:gtzan_)?({'|'.join(gtzan.GENRES)})[._](\d{{5}})")


def read_beats(data_folder, out=None, split="folds", fold=0, lists=None):
    """Pieces with beats; `without_beats` of the report lists files that are empty."""
    found = files.by_stem(data_folder, extensions=(".beats",))
    found = found or files.by_stem(data_folder, extensions=(".jams",))
    if not found:
        files.locate(data_folder, "a folder of beats", (("*.beats",), ("annotations/beats",)))
    order = sorted(found.items(), key=lambda pair: data_set.sha1(pair[0]))
    ranks = {path: rank for rank, (_, path) in enumerate(order)}
    clips = gtzan.read_gtzan(data_folder, out, lists).items if split == "marble" else ()
    listed = {clip.id: clip.split for clip in clips}
    tables = {}  # folder -> stem -> fold or split
    for name in map(PurePath, files.find_audio(data_folder, "", (".split",))[0]):
        if name.name == FILES[split]:
            text = (data_folder / name).read_text(encoding="utf-8-sig")
            tables[name.parent] = dict(re.findall(r"(?m)^(.+?)\s+(train|val|[0-7])\s*$", text))
    audio, items, without, names = frames.audio_finder(data_folder), [], [], set()
    for stem, path in found.items():
        stem = stem.removesuffix(".wav")
        source = next((above for above in PurePath(path).parents if above in tables), PurePath())
        sides = tables.get(source)
        number = ranks[path] % FOLDS
        if clip := _CLIP.fullmatch(stem):
            number, side = "", listed.get(".".join(clip.groups())) if clips else "test"
        elif split == "marble":
            continue
        elif sides is not None and stem not in sides:
            place = data_folder / source / FILES[split]
            raise files.damaged(place, f"has no {stem}")
        elif split == "folds":
            number = int(sides[stem]) if sides else number
            side = frames.split_of(number, fold, FOLDS)
        else:
            valid = sides[stem] == "val" if sides else number == 0
            number, side = "", "valid" if valid else "train"
        names.add("gtzan" if clip else (data_folder / source).name if sides else "")
        if not len(annotations.read_beats(data_folder / path).times):
            without.append(path)
        elif side:
            above = (data_folder / path).parents
            short = (stem.removeprefix(f"{folder.name}_") for folder in above)
            wav = audio(stem, *short)
            items.append(
                frames.make_item(data_folder, stem, wav, side, number, "", {"beats": path})
            )
    settings = {"split": split, "fold": fold}
    variant = f"{' '.join(sorted(names))} {split}"
    return data_set.Annotations(items, settings, variant, {"without_beats": without})
