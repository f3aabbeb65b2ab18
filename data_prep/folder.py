"""Any folder of music -> a training and a validation manifest, and a report of what was skipped.

Every file in the folder and below it is taken by its extension, except `files.JUNK`. Of copies and
links only the first is taken. A second run opens only the files that are new or have changed.
"""

import logging
from pathlib import Path

from speechbrain_music.data_prep import data_set, files, output

logger = logging.getLogger(__name__)

_SHOWN = 20  # extensions in the report
MUSIC = data_set.DataSet(
    title="a folder of music",
    assert_counts=False,
    min_seconds=data_set.MIN_SECONDS,
    own=True,
)


def prepare_folder(data_folder, out, valid_share=0.1, seed=0, keep=False):
    """Write the manifests of a folder of music to the folder `out`, reading headers only.

    A share of the files in (0, 1), at least one, is held out, in an order that depends on their
    paths and the seed alone, so that few change sides when the folder grows. With `keep` manifests
    that exist stay as they are, as for a run that resumes. Returns the report, see `data_set`.

    Raises PreparationError if the folder has fewer than two usable files, an argument is out of
    range, or the manifests exist and are another folder's.
    """
    root, out = files.existing_folder(data_folder), Path(out)
    if keep and all((out / name).exists() for name in ("train.csv", "valid.csv", "report.json")):
        report = output.refuse_other_source(out / "report.json", root, MUSIC.title)
        settings = {"valid_share": valid_share, "seed": seed}
        if changed := [key for key in settings if report["settings"].get(key) != settings[key]]:
            logger.warning(
                "Kept the manifests in %s, made with another %s; delete them to renew them.",
                out,
                ", ".join(changed),
            )
        output.log_report(report)
        return report
    names, unlisted, others = files.find_audio(root)
    if not names and not unlisted:
        raise files.no_audio(root, others)
    annotations = data_set.Annotations(
        [data_set.Item(name, name, None, ()) for name in names],
        variant="",  # of a replica's folder, too, any part is taken
        extra={"other_files": dict(sorted(others.most_common(_SHOWN)))},
    )
    return data_set.prepare_items(MUSIC, root, out, annotations, valid_share=valid_share, seed=seed)
