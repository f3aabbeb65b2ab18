"""SpeechBrain's Checkpointer, safe against a kill at any moment."""

import logging
import os
import shutil

import torch
import yaml
from speechbrain.utils.checkpoints import CKPT_PREFIX, METAFNAME, Checkpointer, ckpt_recency
from speechbrain.utils.distributed import (
    ddp_barrier,
    if_main_process,
    main_process_only,
    run_on_main,
)

from speechbrain_music.utils.atomic import sync_entries, sync_folder
from speechbrain_music.utils.errors import UserError

logger = logging.getLogger(__name__)

SAVING = ".saving"  # where a checkpoint is written


class CheckpointError(UserError):
    """A checkpoint that cannot be written, or none that can be read."""


class AtomicCheckpointer(Checkpointer):
    """Writes a checkpoint to a temporary folder, then renames it; reads the newest intact one.

    Arguments
    ---------
    checkpoints_dir, recoverables, ...
        As `speechbrain.utils.checkpoints.Checkpointer`.

    Raises
    ------
    CheckpointError
        If a checkpoint cannot be written (the ones before stay as they are), or if there are
        checkpoints and none can be read.
    """

    def save_checkpoint(self, meta=None, end_of_epoch=True, name=None, verbosity=logging.INFO):
        """As SpeechBrain's, atomically; numbers in `meta` become plain floats."""
        meta = {key: _plain(value) for key, value in (meta or {}).items()}
        folder = self.checkpoints_dir
        try:
            self.remove_remains()
            self.checkpoints_dir = folder / SAVING
            if if_main_process():
                self.checkpoints_dir.mkdir()
            for part, value in self.recoverables.items():
                if hasattr(value, "state_dict"):
                    self.custom_save_hooks[part] = _save_state
            saved = super().save_checkpoint(meta, end_of_epoch, name, logging.DEBUG)
            if if_main_process():
                saved = _publish(saved, folder)
                logger.log(verbosity, f"Saved a checkpoint in {saved.path}")
        except OSError as error:
            raise CheckpointError(
                f"no checkpoint could be written to {folder} ({error}): the earlier ones are "
                "intact; free some space or choose another output_folder, and run it again"
            ) from error
        finally:
            if if_main_process():
                shutil.rmtree(folder / SAVING, ignore_errors=True)
            self.checkpoints_dir = folder
        ddp_barrier()
        return saved

    @main_process_only
    def remove_remains(self):
        """Removes the remains of killed processes: half written and half deleted checkpoints.

        Only where checkpoints are written, not where they are read: another process may be
        writing there.
        """
        checkpoints = self.checkpoints_dir.glob(f"{CKPT_PREFIX}*")
        halves = [path for path in checkpoints if not (path / METAFNAME).exists()]
        for path in [self.checkpoints_dir / SAVING, *halves]:
            shutil.rmtree(path, ignore_errors=True)

    def delete_checkpoints(
        self, *, num_to_keep=1, min_keys=(), max_keys=(), importance_keys=(ckpt_recency,), **options
    ):
        """As SpeechBrain's; the metadata goes first: no half deleted one is taken for whole."""
        orders = [{"min_key": key} for key in min_keys or ()]
        orders += [{"max_key": key} for key in max_keys or ()]
        orders += [{"importance_key": key} for key in importance_keys]
        verbosity = options.pop("verbosity", logging.INFO)
        found, kept = set(), set()
        for order in orders:
            found.update(self.find_checkpoints(**order, **options))
            kept.update(self.find_checkpoints(**order, **options, max_num_checkpoints=num_to_keep))
        ddp_barrier()  # all processes have listed them before any is deleted
        if if_main_process():
            for checkpoint in found - kept:
                (checkpoint.path / METAFNAME).unlink()
                shutil.rmtree(checkpoint.path)
                logger.log(verbosity, f"Deleted the checkpoint in {checkpoint.path}")
        ddp_barrier()

    def save_and_keep_only(self, importance_keys=(), **options):
        """As SpeechBrain's, whose default list grows by one sort key with every save."""
        super().save_and_keep_only(importance_keys=list(importance_keys), **options)

    def recover_if_possible(self, **choice):
        """Loads the best by `choice` (the newest without it) that can be read, and returns it.

        All processes load the one that the first of them can read, or end.
        """
        checkpoint = run_on_main(self._recover_first, kwargs=choice)
        if checkpoint and not if_main_process():
            self.load_checkpoint(checkpoint)
        return checkpoint

    def _recover_first(self, **choice):
        candidates = self.find_checkpoints(**choice)
        for checkpoint in candidates:
            try:
                self.load_checkpoint(checkpoint)
                return checkpoint
            except Exception as error:  # whatever a damaged file makes its reader raise
                logger.warning(f"{checkpoint.path} cannot be read ({error!r}): trying another one")
        if candidates:
            raise CheckpointError(
                f"none of the {len(candidates)} checkpoints in {self.checkpoints_dir} fits this "
                "experiment or can be read: choose another output_folder, or delete that folder "
                "to start again"
            )
        return None

    @staticmethod
    def _construct_checkpoint_objects(checkpoint_dirs):
        whole = []
        for folder in checkpoint_dirs:
            try:
                (checkpoint,) = Checkpointer._construct_checkpoint_objects([folder])
                float(checkpoint.meta["unixtime"])
                whole.append(checkpoint)
            except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
                logger.warning(f"{folder / METAFNAME} cannot be read: this checkpoint is ignored")
        return whole


@main_process_only
def _save_state(value, path):
    # Through Python's own file: torch's writer hides the reason of a failure.
    with open(path, "wb") as file:
        try:
            torch.save(value.state_dict(), file)
        except RuntimeError as error:  # torch's follow-up error hides the reason
            raise (error.__context__ or error) from None


def _publish(saved, folder):
    sync_folder(saved.path)
    target, number = folder / saved.path.name, 0
    while target.exists():
        number += 1
        target = folder / f"{saved.path.name}_{number}"
    os.replace(saved.path, target)
    sync_entries(folder)
    paramfiles = {name: target / path.name for name, path in saved.paramfiles.items()}
    return saved._replace(path=target, paramfiles=paramfiles)


def _plain(value):
    return value if isinstance(value, (bool, int, str)) else float(value)
