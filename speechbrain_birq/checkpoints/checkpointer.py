"""Checkpoints: atomic, verified, counted, and never running code."""

import logging
import math
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from speechbrain.utils.checkpoints import (
    DEFAULT_SAVE_HOOKS,
    Checkpoint,
    Checkpointer,
    get_default_hook,
    torch_save,
)
from speechbrain.utils.distributed import (
    MainProcessContext,
    ddp_barrier,
    if_main_process,
)

from speechbrain_birq.checkpoints import files
from speechbrain_birq.checkpoints.files import load_tensors, save_tensors
from speechbrain_birq.checkpoints.rank_states import RankStates
from speechbrain_birq.checkpoints.recovery import (
    SAVE_NUMBER,
    describe,
    first_complete,
    read_checkpoint,
    save_order,
    smallness,
)
from speechbrain_birq.checkpoints.run_folder import check_state, load_state

logger = logging.getLogger(__name__)

PARTIAL = "partial+"


class AtomicCheckpointer(Checkpointer):
    """SpeechBrain's Checkpointer, made to outlive kills, corruption and full disks.

    The stock one writes into the final folder: after an interrupted save, recovery
    fails with a KeyError. Here a checkpoint gets its name when all of it is on the
    disk. Checksums are verified before it is loaded; a corrupt one is skipped.
    """

    unsaved: str | None = None  # why the last save has failed, on the rank that saves

    def _new_checkpoint_dirpath(self):
        path = super()._new_checkpoint_dirpath()
        return path.with_name(f"{PARTIAL}{path.name}")

    def _custom_checkpoint_dirpath(self, name):
        path = super()._custom_checkpoint_dirpath(name)
        return path.with_name(f"{PARTIAL}{path.name}")

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> Checkpoint | None:
        """Save into a partial folder, flush it to the disk, then rename it.

        All ranks call it, the first one writes.

        Arguments
        ---------
        *args, **kwargs
            As for SpeechBrain's Checkpointer.

        Returns
        -------
        Checkpoint or None
            None on the other ranks, and if the disk is full, which the log says.
        """
        self._use_safe_hooks()
        for recoverable in self.recoverables.values():
            if isinstance(recoverable, RankStates):
                recoverable.gather()
        ddp_barrier()
        # Within this context SpeechBrain's hooks do not synchronize the ranks, because
        # the first one may fail alone.
        with MainProcessContext():
            saved = self._saved(args, kwargs) if if_main_process() else None
        ddp_barrier()
        return saved

    def _save_checkpoint_metafile(self, fpath, meta_to_include, end_of_epoch):
        newest = self.find_checkpoint()
        number = 1 if newest is None else newest.meta[SAVE_NUMBER] + 1
        meta = {**meta_to_include, SAVE_NUMBER: number}
        return super()._save_checkpoint_metafile(fpath, meta, end_of_epoch)

    def _saved(self, args, kwargs):
        self._clear_away()
        try:
            # SpeechBrain says "saved" too early: the folder has no name yet.
            quietly = kwargs | {"verbosity": logging.DEBUG}
            partial = super().save_checkpoint(*args, **quietly).path
            files.seal(partial)
            final = partial.with_name(partial.name.removeprefix(PARTIAL))
            if final.exists():  # the caller uses a name again
                _delete(final)
            partial.rename(final)
            files.flush(self.checkpoints_dir)
        except OSError as error:
            self._clear_away()
            self.unsaved = error.strerror or str(error)
            logger.error(
                "no checkpoint saved in %s (%s): training continues and older ones are "
                "kept; make room",
                self.checkpoints_dir,
                self.unsaved,
            )
            return None
        self.unsaved = None
        logger.debug("saved %s", final)
        return read_checkpoint(final)

    def _clear_away(self):
        """Remove what interrupted saves and deletions have left."""
        for left_over in self.checkpoints_dir.glob(f"{PARTIAL}*"):
            shutil.rmtree(left_over, ignore_errors=True)

    def save_and_keep_only(
        self,
        *,
        meta: Mapping[str, Any] | None = None,
        end_of_epoch: bool = True,
        num_to_keep: int = 1,
        min_keys: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        """Save; keep the newest ones and the best.

        There are never more than ``num_to_keep + 1`` on the disk, partial ones
        included. If the best is older than the ``num_to_keep`` newest, the oldest of
        these is therefore deleted before the new one is written.

        Arguments
        ---------
        meta : mapping, optional
            Description of the checkpoint, such as its scores.
        end_of_epoch : bool
        num_to_keep : int
            Number of most recent checkpoints to keep.
        min_keys : sequence
            Keys of ``meta``; for each, the checkpoint with the smallest value is kept,
            too.
        **kwargs
            ``name`` of ``save_checkpoint``.
        """
        if if_main_process():
            self._keep(num_to_keep, min_keys, at_most=num_to_keep)
        saved = self.save_checkpoint(
            meta=meta or {}, end_of_epoch=end_of_epoch, **kwargs
        )
        if saved is not None:
            self._keep(num_to_keep, min_keys, at_most=num_to_keep + len(min_keys))

    def _keep(self, newest, min_keys, at_most):
        """Delete all but the newest and the best, and of those the oldest."""
        found = self.find_checkpoints()
        kept = [min(found, key=lambda c: smallness(c, k)) for k in min_keys if found]
        kept += [checkpoint for checkpoint in found[:newest] if checkpoint not in kept]
        paths = {checkpoint.path for checkpoint in kept[:at_most]}
        for folder in self._list_checkpoint_dirs():
            if folder in paths:
                continue
            try:
                _delete(folder)
            except OSError as error:  # no reason to end a training
                logger.warning("cannot delete %s: %s", folder, error.strerror or error)

    def _list_checkpoint_dirs(self):
        return sorted(self.checkpoints_dir.glob("CKPT+*"))

    def list_checkpoints(self) -> list[Checkpoint]:
        """Return the checkpoints whose description can be read."""
        return describe(self._list_checkpoint_dirs())

    def find_checkpoints(
        self,
        importance_key: Callable[[Checkpoint], Any] | None = None,
        max_key: str | None = None,
        min_key: str | None = None,
        ckpt_predicate: Callable[[Checkpoint], bool] | None = None,
        max_num_checkpoints: int | None = None,
    ) -> list[Checkpoint]:
        """Return checkpoints, the best or the newest first; of equals, the newest.

        SpeechBrain's takes the one of the latest time for the newest, this one the
        one that was saved last.

        Arguments
        ---------
        importance_key : callable, optional
            Returns what is largest for the best checkpoint.
        max_key, min_key : str, optional
            Key of ``meta`` whose value is largest or smallest for the best checkpoint;
            checkpoints without such a number are left out.
        ckpt_predicate : callable, optional
            Returns whether a checkpoint counts; by default all do.
        max_num_checkpoints : int, optional
            At most this number is returned.
        """
        found = list(filter(ckpt_predicate, self.list_checkpoints()))
        found.sort(key=save_order, reverse=True)
        key = max_key or min_key
        if key is not None:
            found = [c for c in found if math.isfinite(smallness(c, key))]
            found.sort(key=lambda c: smallness(c, key) * (-1 if max_key else 1))
        elif importance_key is not None:
            found.sort(key=importance_key, reverse=True)
        return found[:max_num_checkpoints]

    def recover_if_possible(
        self,
        importance_key: Callable[[Checkpoint], Any] | None = None,
        max_key: str | None = None,
        min_key: str | None = None,
    ) -> Checkpoint | None:
        """Load the newest checkpoint that is not corrupt, or the best by a key.

        Returns
        -------
        Checkpoint or None
            None if there is none, or none with the key.

        Raises
        ------
        BadInput
            If there are checkpoints, and all of them are corrupt or do not fit.
        """
        ddp_barrier()
        if if_main_process():
            self._clear_away()
        folders = self._list_checkpoint_dirs()
        ranked = self.find_checkpoints(importance_key, max_key, min_key)
        if not folders or (not ranked and self.list_checkpoints()):
            return None
        complete = first_complete(ranked, folders)
        self._use_safe_hooks()
        with warnings.catch_warnings():
            # Checkpoints of earlier versions lack what is optional.
            warnings.filterwarnings("ignore", "Trying to load", UserWarning)
            self.load_checkpoint(complete)
        return complete

    def _use_safe_hooks(self):
        """Replace SpeechBrain's plain ``torch.save`` and ``torch.load``."""
        for name, recoverable in self.recoverables.items():
            if get_default_hook(recoverable, DEFAULT_SAVE_HOOKS) is torch_save:
                self.custom_save_hooks[name] = _save_state
                self.custom_load_hooks[name] = _load_state


def _save_state(recoverable, path):
    save_tensors(recoverable.state_dict(), path)


def _load_state(recoverable, path, end_of_epoch):
    folder = path.parents[1]  # .../save/CKPT+time/model.ckpt
    state = load_tensors(path)
    check_state(state, path)
    load_state(recoverable, state, folder, path.stem)


def _delete(folder):
    """Rename, then delete: what a kill leaves must not look like a checkpoint."""
    renamed = folder.with_name(f"{PARTIAL}old+{folder.name}")
    folder.rename(renamed)
    # What cannot be deleted now (a file that is open elsewhere, on NFS) is cleared away
    # before the next save.
    shutil.rmtree(renamed, ignore_errors=True)
