"""SpeechBrain's Checkpointer, safe against a kill at any moment and against damaged files."""

import hashlib
import io
import logging
import math
import os
import shutil
from pathlib import Path

import torch
import yaml
from speechbrain.utils import checkpoints, distributed
from speechbrain.utils.checkpoints import METAFNAME

from speechbrain_music.utils.atomic import sync_entries, sync_folder, write_together
from speechbrain_music.utils.errors import UserError

logger = logging.getLogger(__name__)

MAX_METADATA = 2**20  # bytes


class AtomicCheckpointer(checkpoints.Checkpointer):
    """Writes a checkpoint's metadata last, without which it is none; reads the newest intact one.

    The newest is that of the most steps, if `meta` has a `step`, whatever the clock said. The
    metadata holds a SHA-256 of itself and of each part: a damaged checkpoint is never loaded.
    It also holds `options` (a dict of numbers and texts), see `refuse_other_options`.

    Raises UserError if there are checkpoints and none can be read, or none has a finite value to
    choose by; OSError if one cannot be written: the ones before stay as they are.
    """

    def __init__(self, checkpoints_dir, recoverables=None, options=None, **others):
        super().__init__(checkpoints_dir, recoverables, **others)
        self.options = {} if options is None else {"options": options}
        self._damaged = set()

    def save_checkpoint(self, meta=None, end_of_epoch=True, name=None, verbosity=logging.INFO):
        """As SpeechBrain's, atomically; numbers in `meta` become plain floats.

        Those that are not finite are left out: no checkpoint is chosen by them.
        """
        meta = {k: v if isinstance(v, (int, str)) else float(v) for k, v in (meta or {}).items()}
        meta = {k: v for k, v in meta.items() if isinstance(v, str) or math.isfinite(v)}
        for part, value in self.recoverables.items():
            if hasattr(value, "state_dict"):
                self.custom_save_hooks[part] = _save_state
        self.remove_remains()
        saved = super().save_checkpoint(meta | self.options, end_of_epoch, name, logging.DEBUG)
        if distributed.if_main_process():
            _complete(saved)
            logger.log(verbosity, f"Saved a checkpoint in {saved.path}")
        distributed.ddp_barrier()
        return saved

    @distributed.main_process_only
    def remove_remains(self):
        """Removes the remains of killed processes: half written and half deleted checkpoints.

        Only where checkpoints are written, not where they are read: another process may be
        writing there.
        """
        for path in self.checkpoints_dir.glob(f"{checkpoints.CKPT_PREFIX}*"):
            if not (path / METAFNAME).exists():
                shutil.rmtree(path, ignore_errors=True)

    def _save_checkpoint_metafile(self, fpath, *meta):
        # `_complete` writes it, when everything else is on the disk.
        return super()._save_checkpoint_metafile(os.devnull, *meta)

    def save_and_keep_only(self, importance_keys=(), **options):
        """As SpeechBrain's, whose default list grows by one sort key with every save."""
        super().save_and_keep_only(importance_keys=list(importance_keys), **options)

    def find_checkpoints(self, importance_key=None, max_key=None, min_key=None, **options):
        """As SpeechBrain's, but the newest is that of the most steps."""
        if importance_key is checkpoints.ckpt_recency or not (importance_key or max_key or min_key):
            importance_key = _progress
        return super().find_checkpoints(importance_key, max_key, min_key, **options)

    def recover_if_possible(self, **choice):
        """Loads the best by `choice` (the newest without it) that can be read, and returns it.

        All processes load the one that the first of them can read, or end.
        """
        checkpoint = distributed.run_on_main(self._recover_first, kwargs=choice)
        if checkpoint and not distributed.if_main_process():
            self.load_checkpoint(checkpoint)
        return checkpoint

    def _recover_first(self, **choice):
        candidates = self.find_checkpoints(**choice)
        for checkpoint in candidates:
            try:
                for part in self.recoverables.keys() & checkpoint.paramfiles.keys():
                    file = checkpoint.paramfiles[part]
                    if _digest(file) != checkpoint.meta["sha256"][file.name]:
                        raise ValueError(f"{file.name} is damaged")
                self.load_checkpoint(checkpoint)
                return checkpoint
            except Exception as error:  # whatever a damaged file makes its reader raise
                self._ignore(checkpoint.path, error)
        intact = self.list_checkpoints()
        if candidates or (self._damaged and not intact):
            raise UserError(
                f"none of the {len(self._damaged)} checkpoints in {self.checkpoints_dir} fits this "
                "experiment or can be read: choose another output_folder, or delete that folder "
                "to start again"
            )
        if any(checkpoint.meta["end-of-epoch"] for checkpoint in intact):
            raise UserError(
                f"no checkpoint in {self.checkpoints_dir} has a finite {[*choice.values()][0]}: "
                "training diverged; lower lr and choose another output_folder"
            )
        return None

    def load_checkpoint(self, checkpoint):
        """As SpeechBrain's, without running code of the files."""
        for part, value in self.recoverables.items():
            if hasattr(value, "load_state_dict"):
                self.custom_load_hooks[part] = _load_state
        super().load_checkpoint(checkpoint)

    def _construct_checkpoint_objects(self, checkpoint_dirs):
        intact = []
        for folder in checkpoint_dirs:
            if folder not in self._damaged:
                try:
                    intact.append(_read(folder))
                except Exception as error:  # whatever a damaged file makes its reader raise
                    self._ignore(folder, error)
        return intact

    def _ignore(self, folder, error):
        # It is not counted among those to keep either.
        self._damaged.add(folder)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        logger.warning(f"{folder} cannot be read and is ignored ({reason:.300})")


def refuse_other_options(folder, options, may_differ):
    """Raises UserError if the newest checkpoint of a folder has other `options`.

    Values of the keys in `may_differ` may differ.
    """
    newest = AtomicCheckpointer(folder).find_checkpoint() if Path(folder).is_dir() else None
    before = newest.meta.get("options", options) if newest else options
    keys = [k for k in options | before if before.get(k) != options.get(k) and k not in may_differ]
    if keys:
        values = [f"{k} was {before.get(k)!r:.200}, is {options.get(k)!r:.200}" for k in keys]
        raise UserError(
            f"{folder} is of a run with other options ({'; '.join(values)}): choose another "
            "output_folder, or pass the earlier values to continue that run"
        )


def _progress(checkpoint):
    return checkpoint.meta.get("step", 0), checkpoint.meta["unixtime"]


def _complete(saved):
    """Adds the metadata to a checkpoint whose parts are written."""
    digests = {file.name: _digest(file) for file in saved.path.glob("*.ckpt")}
    meta = saved.meta | {"sha256": digests}
    digests[METAFNAME] = hashlib.sha256(yaml.safe_dump(meta).encode()).hexdigest()
    sync_folder(saved.path)
    write_together({saved.path / METAFNAME: yaml.safe_dump(meta)})
    for folder in (saved.path, saved.path.parent):
        sync_entries(folder)


def _read(folder):
    """The checkpoint in a folder; raises anything if its metadata is damaged."""
    file = folder / METAFNAME
    if not file.is_file() or file.stat().st_size > MAX_METADATA:  # a FIFO would block
        raise ValueError(f"{file} is no file of a checkpoint")
    meta = yaml.safe_load(file.read_text(encoding="utf-8"))
    digest = meta["sha256"].pop(METAFNAME)
    if hashlib.sha256(yaml.safe_dump(meta).encode()).hexdigest() != digest:
        raise ValueError(f"{file} is damaged")
    files = {file.stem: file for file in folder.glob("*.ckpt") if file.is_file()}
    return checkpoints.Checkpoint(folder, meta, files)


def _digest(file):
    with open(file, "rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _load_state(value, path, end_of_epoch):
    value.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))


def _save_state(value, path):
    state = value.state_dict()  # in all processes, which may have to add it up
    if distributed.if_main_process():
        content = io.BytesIO()  # writing to a file, torch hides why that failed
        torch.save(state, content)
        path.write_bytes(content.getbuffer())
