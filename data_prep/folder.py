"""Any folder of music -> a training and a validation manifest, and a report of what was skipped.

Every file in the folder and below it is taken by its extension, except `files.JUNK`. Of copies and
links only the first is taken. A second run opens only the files that are new or have changed.
"""

import logging
from pathlib import Path

from speechbrain_music.data_prep import data_set, duplicates, files, manifest, output
from speechbrain_music.data_prep.headers import read_headers

logger = logging.getLogger(__name__)

_SHOWN = 20  # extensions in the report


def prepare_folder(
    data_folder,
    train_csv,
    valid_csv,
    valid_share=0.1,
    seed=0,
    min_seconds=data_set.MIN_SECONDS,
    refresh=False,
):
    """Write the manifests of a folder of music, reading headers only.

    Files are held out in an order that depends on their paths and the seed alone, so that few
    change sides when the folder grows. In the folder of `train_csv` appear also `report.json`
    (the returned dict), `skipped.csv` and `headers.jsonl`.

    Arguments
    ---------
    data_folder, train_csv, valid_csv : str | Path
        The folder, and the manifests to write.
    valid_share, seed : float, int
        Share of the files to hold out, in (0, 1), and what chooses them; at least one file is.
    min_seconds : float
        Files shorter than this are skipped.
    refresh : bool
        Whether manifests that exist are updated; a run that resumes keeps them.

    Raises
    ------
    PreparationError
        If the folder has fewer than two usable files, an argument is out of range, or the
        manifests cannot be written, or exist and are another folder's.
    """
    data_set.check_share(valid_share)
    root = files.existing_folder(data_folder)
    train_csv, valid_csv = Path(train_csv), Path(valid_csv)
    out = train_csv.parent
    settings = {"data_folder": str(root), "valid_share": valid_share}
    settings |= {"seed": seed, "min_seconds": min_seconds}
    there = [path.exists() for path in (train_csv, valid_csv, out / "report.json")]
    if any(there):
        report = output.refuse_other_source(out / "report.json", root)
        if all(there) and not refresh:
            changed = [key for key, value in settings.items() if report.get(key) != value]
            if changed:
                logger.warning(
                    "Kept the manifests in %s, made with another %s; delete them to renew them.",
                    out,
                    ", ".join(changed),
                )
            output.log_report(report)
            return report
    files.check_output(train_csv, valid_csv)

    names, unlisted, others = files.find_audio(root)
    if not names and not unlisted:
        raise files.no_audio(root, others)
    rows, skipped = [], list(unlisted)
    headers = read_headers(root, names, out / "headers.jsonl")
    faults = {name: data_set.fault_of(headers[name], min_seconds) for name in names}
    usable = sorted(name for name in names if not faults[name])
    first = duplicates.equal_files(root, usable)
    if len(usable) > 1 and len(set(first.values())) == 1:
        logger.warning("All files have the same content: what is held out is in training, too.")
        first = {name: name for name in usable}
    for name in usable:
        if name == first[name]:
            rows.append(data_set.manifest_row(name, name, headers[name]))
        else:
            faults[name] = duplicates.COPY
    skipped += [(name, fault) for name, fault in faults.items() if fault]
    if len(rows) < 2:
        first = "".join(f"; {name}: {reason}" for name, reason in sorted(skipped)[:1])
        raise files.PreparationError(
            f"{root} has {len(rows)} usable of {len(rows) + len(skipped)} audio file(s), and two "
            f"are needed, one to train and one to hold out{first}."
        )
    splits = data_set.hold_out(rows, valid_share, seed)
    counts = {name: output.split_counts(part) for name, part in splits.items()}
    report = settings | {"splits": counts} | output.skipped_counts(skipped)
    report["other_files"] = dict(sorted(others.most_common(_SHOWN)))
    texts = {
        valid_csv: manifest.manifest_text(splits["valid"]),
        train_csv: manifest.manifest_text(splits["train"]),
    }
    output.write_output(out, report, skipped, texts)
    return report
