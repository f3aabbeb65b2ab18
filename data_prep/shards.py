"""Manifests -> tar shards of 24 kHz mono FLAC, and manifests of what is in them.

    shards manifests/mine/train.csv manifests/mine/valid.csv --data_folder /my/music --out shards
    shards --check shards

For corpora of more files than a file system handles well. The new manifests name each piece by its
shard and its bytes there, and training reads them like others: pass --data_folder shards,
--train_csv and --valid_csv. The same command continues an interrupted packing, and packs a deleted
shard again.
"""

import csv
import hashlib
import io
import json
import logging
import os
import tarfile
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from tqdm import tqdm

from speechbrain_music.data_prep import files, manifest, output
from speechbrain_music.dataio import audio
from speechbrain_music.dataio.byte_range import ByteRange, parse
from speechbrain_music.utils.atomic import atomic_file

logger = logging.getLogger(__name__)

_VERSION = 1  # of what shards hold: those of another are not continued
_BITS = 24  # they round by 6e-8 of full scale
_OTHER_BYTES = 4096  # of a piece besides its samples, at most
_AT_ONCE = 60 * audio.SAMPLE_RATE  # samples of a piece that are decoded at once


class _Piece(NamedTuple):
    """A manifest's row, its number there, and its segment of the file in samples at 24 kHz."""

    number: int
    row: dict
    start: int
    samples: int


class _Shard(NamedTuple):
    """A tar file, the pieces that belong in it, and the folder that they are read from."""

    tar: Path
    pieces: list
    root: Path

    @property
    def index(self):
        """The file with the content's places and checksum, written when the tar is complete."""
        return self.tar.with_suffix(".json")

    @property
    def key(self):
        """A hash of all that the content depends on, except the music itself."""
        content = json.dumps([_VERSION, str(self.root), self.pieces])
        return hashlib.sha256(content.encode()).hexdigest()


@files.as_user_error
def pack(manifests, data_folder, out, shard_mb=500, workers=None):
    """Pack the pieces of manifests; the same music gives the same bytes with any `workers`.

    `train.csv` becomes `train-000000.tar` and so on, each with an index `train-000000.json`, then
    `skipped.csv`, `report.json` and, last, another `train.csv`. In a tar a piece is two members
    named by its number in the manifest (webdataset cuts names at dots, which IDs have): `.flac`,
    and `.json` with its row. Pieces keep their order, duration and labels: a run draws from
    shards what it draws from files.

    A shard has at most `shard_mb` MB before FLAC's compression, unless it holds one piece. The
    report also counts pieces that are `clipped` (beyond full scale) and `shortened` (ending early).
    """
    if not shard_mb > 0:
        raise files.PreparationError(f"shard_mb is {shard_mb}; it must be above 0.")
    if workers is not None and workers < 1:
        raise files.PreparationError(f"workers is {workers}; it must be 1 or more.")
    root, out = files.existing_folder(data_folder), Path(out)
    targets = {out / f"{Path(path).stem}.csv": path for path in manifests}
    if len(targets) < len(manifests):
        raise files.PreparationError("Two manifests have the same name; rename one.")
    files.check_output(*targets)
    report = output.read_json(out / "report.json")
    if any(target.exists() for target in targets) and "shards" not in report:
        raise files.PreparationError(f"{out} holds manifests of files; choose another folder.")

    totals = dict.fromkeys(("shards", "bytes", "clipped", "shortened"), 0)
    splits, texts, skipped = {}, {}, []
    for target, path in targets.items():
        pieces, columns = _read_pieces(path, root)
        shards = [
            _Shard(target.with_name(f"{target.stem}-{number:06d}.tar"), part, root)
            for number, part in enumerate(_share_out(pieces, shard_mb * 1e6))
        ]
        rows = []
        for shard, index in zip(shards, _pack_all(shards, workers), strict=True):
            totals["shards"] += index["bytes"] > 0
            totals["bytes"] += index["bytes"]
            totals["clipped"] += index["clipped"]
            for piece, found in zip(shard.pieces, index["pieces"], strict=True):
                if isinstance(found, str):
                    skipped.append((piece.row["wav"], found))
                    continue
                rows.append(piece.row | {"start": 0} | found)
                if found["stop"] < piece.samples - 1:  # by 1: durations in a manifest are rounded
                    rows[-1]["duration"] = found["stop"] / audio.SAMPLE_RATE
                    totals["shortened"] += 1
        if not rows:
            raise files.PreparationError(
                f"None of the {len(pieces)} pieces of {path} can be read "
                f"(last: {': '.join(skipped[-1])}); check the data folder."
            )
        splits[target.stem] = output.split_counts(rows)
        texts[target] = manifest.manifest_text(rows, columns)
    report = {"data_folder": ".", "source": str(root), "splits": splits}
    report |= totals | output.skipped_counts(skipped)
    output.write_output(out, report, skipped, texts)
    logger.info("%d shards, %.1f MB", totals["shards"], totals["bytes"] / 1e6)
    if totals["clipped"]:
        logger.warning("%d pieces go beyond full scale and are clipped", totals["clipped"])
    if totals["shortened"]:
        logger.warning("%d pieces end earlier than in their manifest", totals["shortened"])
    return report


def _read_pieces(path, root):
    """A manifest's pieces in the order of their IDs, and its label columns."""
    table = manifest.read_manifest(path, root).sort_values("ID", ignore_index=True)
    table["wav"] = table["wav"].str.removeprefix(f"{root}/")
    with open(path, encoding="utf-8-sig", newline="") as file:
        columns = [name for name in next(csv.reader(file)) if name not in manifest.COLUMNS]
    rows = table[[*manifest.COLUMNS, *columns]].to_dict("records")
    places = (array.tolist() for array in audio.segment_bounds(table, audio.SAMPLE_RATE))
    return list(map(_Piece, range(len(rows)), rows, *places)), columns


def _share_out(pieces, shard_bytes):
    """Lists of pieces, one per shard; they depend on the manifest alone."""
    shards, room = [], 0
    for piece in pieces:
        size = piece.samples * _BITS // 8 + _OTHER_BYTES
        if size > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append(piece)
        room -= size
    return shards


def _pack_all(shards, workers):
    """The indexes of all shards; those that are missing are packed."""
    indexes = {shard.tar: _kept(shard) for shard in shards}
    waiting = [shard for shard in shards if not indexes[shard.tar]]
    stop = threading.Event()
    total = sum(len(shard.pieces) for shard in waiting)
    # Threads: the work is done in C, and none outlives this process when it is killed.
    with (
        tqdm(total=total, desc="Packing", unit="piece", disable=None) as bar,
        ThreadPoolExecutor(workers or os.cpu_count()) as pool,
    ):
        futures = [pool.submit(_pack, shard, stop, bar) for shard in waiting]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    packed = {shard.tar: future.result() for shard, future in zip(waiting, futures, strict=True)}
    return (indexes | packed).values()


def _read_index(path):
    """The content of an index; an empty dict if it is missing or damaged."""
    index = output.read_json(path)
    kinds = {"key": str, "sha256": str, "bytes": int, "clipped": int, "pieces": list}
    whole = all(type(index.get(name)) is kind for name, kind in kinds.items()) and all(
        type(piece) is str
        or (type(piece) is dict and parse(piece.get("wav")) and type(piece.get("stop")) is int)
        for piece in index["pieces"]
    )
    return index if whole else {}


def _kept(shard):
    """The index of a shard that exists with the right size, or None."""
    index = _read_index(shard.index)
    if index and index["key"] != shard.key:
        raise files.PreparationError(
            f"{shard.tar} was packed from another manifest, folder or version; delete the shards "
            f"in {shard.tar.parent} or choose another folder."
        )
    whole = index and len(index["pieces"]) == len(shard.pieces) and shard.tar.exists()
    whole = whole and shard.tar.stat().st_size == index["bytes"]
    return index if whole else None


def _pack(shard, stop, bar):
    found, clipped = [], 0
    with atomic_file(shard.tar, "w+b") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for piece in shard.pieces:
                if stop.is_set():
                    raise CancelledError
                bar.update()
                path = os.path.join(shard.root, piece.row["wav"])
                try:
                    sound, frames, peak = _encode(path, piece)
                except audio.AudioError as error:
                    found.append(str(error).removeprefix(f"{path}: ").rstrip("."))
                    continue
                offset = file.tell() + tarfile.BLOCKSIZE  # after the member's header
                place = ByteRange(shard.tar.name, piece.row["ID"], offset, len(sound))
                found.append({"wav": str(place), "stop": frames})
                clipped += int(peak > 1)
                row = json.dumps(piece.row, ensure_ascii=False).encode()
                for kind, content in (("flac", sound), ("json", row)):
                    member = tarfile.TarInfo(f"{piece.number:09d}.{kind}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        file.seek(0)
        index = {
            "key": shard.key,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
            "bytes": file.tell(),
            "clipped": clipped,
            "pieces": found,
        }
    if not any(isinstance(piece, dict) for piece in found):
        # The music is probably away, not damaged: nothing is kept, so the next run tries again.
        shard.tar.unlink()
        return index | {"bytes": 0}
    with atomic_file(shard.index, encoding="utf-8") as file:
        json.dump(index, file, ensure_ascii=False)
    return index


def _encode(path, piece):
    """A piece as FLAC, its length in samples and its largest absolute value."""
    sound, frames, peak = io.BytesIO(), 0, 0.0
    stop = piece.start + piece.samples
    begins = range(piece.start, stop, _AT_ONCE)
    places = [(begin, min(_AT_ONCE, stop - begin)) for begin in begins]
    with soundfile.SoundFile(
        sound, "w", audio.SAMPLE_RATE, 1, subtype=f"PCM_{_BITS}", format="FLAC"
    ) as file:
        for wave in audio.read_segments(path, places):
            file.write(wave)
            frames += len(wave)
            peak = max(peak, np.abs(wave).max(initial=0))
    if not frames:
        raise audio.AudioError(f"{path}: ends before the piece begins.")
    return sound.getvalue(), frames, peak


@files.as_user_error
def check(folder):
    """Compare shards with their checksums.

    `folder` is what `pack` wrote, or a copy of it. A `PreparationError` names the shards that are
    missing or differ, and their pieces that cannot be read.
    """
    folder = files.existing_folder(folder)
    wanted = output.read_json(folder / "report.json").get("shards")
    if wanted is None:
        raise files.PreparationError(f"{folder} holds no shards, or packing them has not finished.")
    indexes = sorted(folder.glob("*-[0-9]*.json"))
    faults = [fault for fault in map(_fault, tqdm(indexes, unit="shard", disable=None)) if fault]
    if len(indexes) != wanted:
        faults.append(f"{len(indexes)} of {wanted} indexes exist")
    if faults:
        raise files.PreparationError(
            f"{folder} is not as packed: {'; '.join(faults)}. Copy these again, or delete them "
            "and run the command that packed them again."
        )
    logger.info("%d shards are as packed", wanted)


def _fault(path):
    """What is wrong with the shard of an index, or None."""
    index, tar = _read_index(path), path.with_suffix(".tar")
    if not (index and tar.exists()):
        return f"{tar.name} or its index is missing or damaged"
    with open(tar, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() == index["sha256"]:
            return None
    damaged = []
    for piece in index["pieces"]:
        try:
            if not isinstance(piece, str):
                audio.read_segment(path.parent / piece["wav"])
        except audio.AudioError:
            damaged.append(parse(piece["wav"]).item)
    return f"{tar.name} differs (pieces that cannot be read: {', '.join(damaged) or 'none'})"
