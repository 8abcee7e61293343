"""Checkpoints: whole or not at all, verified, counted, and never running code."""

import logging
import shutil

from speechbrain.utils.checkpoints import (
    DEFAULT_SAVE_HOOKS,
    Checkpointer,
    ckpt_recency,
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
    describe,
    first_whole,
    read_checkpoint,
    smallness,
)

logger = logging.getLogger(__name__)

PARTIAL = "partial+"


class AtomicCheckpointer(Checkpointer):
    """SpeechBrain's Checkpointer, made to outlive kills, damage and full disks.

    The stock one writes into the final folder: after an interrupted save, recovery
    fails with a KeyError. Here a checkpoint gets its name when all of it is on the
    disk. Checksums are verified before it is loaded; a damaged one is passed over.
    """

    def _new_checkpoint_dirpath(self):
        path = super()._new_checkpoint_dirpath()
        return path.with_name(f"{PARTIAL}{path.name}")

    def _custom_checkpoint_dirpath(self, name):
        path = super()._custom_checkpoint_dirpath(name)
        return path.with_name(f"{PARTIAL}{path.name}")

    def save_checkpoint(self, *args, **kwargs):
        """Save into a partial folder, flush it to the disk, then rename it.

        All ranks call it, the first one writes.

        Returns
        -------
        Checkpoint or None
            None on other ranks, and where the disk is full: the log says so.
        """
        self._use_safe_hooks()
        for recoverable in self.recoverables.values():
            if isinstance(recoverable, RankStates):
                recoverable.gather()
        ddp_barrier()
        # Within it SpeechBrain's hooks wait for no other rank: one may fail alone.
        with MainProcessContext():
            saved = self._saved(args, kwargs) if if_main_process() else None
        ddp_barrier()
        return saved

    def _saved(self, args, kwargs):
        self._clear_away()
        try:
            quietly = kwargs | {"verbosity": logging.DEBUG}  # not saved, so far
            partial = super().save_checkpoint(*args, **quietly).path
            files.seal(partial)
            final = partial.with_name(partial.name.removeprefix(PARTIAL))
            if final.exists():  # a name that is used again
                _delete(final)
            partial.rename(final)
            files.flush(self.checkpoints_dir)
        except OSError as error:
            self._clear_away()
            logger.error(
                "no checkpoint saved in %s (%s): training goes on, the older ones are "
                "kept; make room",
                self.checkpoints_dir,
                error.strerror or error,
            )
            return None
        logger.info("saved %s", final)
        return read_checkpoint(final)

    def _clear_away(self):
        """Remove what interrupted saves and deletions have left."""
        for left_over in self.checkpoints_dir.glob(f"{PARTIAL}*"):
            shutil.rmtree(left_over, ignore_errors=True)

    def save_and_keep_only(
        self, *, meta=None, end_of_epoch=True, num_to_keep=1, min_keys=(), **kwargs
    ):
        """Save; keep the newest ones and the best.

        There are never more than ``num_to_keep + 1`` on the disk, partial ones
        included. So where the best is older than the ``num_to_keep`` newest, the oldest
        of these goes before the new one is written.

        Arguments
        ---------
        meta : dict, optional
            What is known of the checkpoint.
        end_of_epoch : bool
        num_to_keep : int
            Of the newest.
        min_keys : list
            Of ``meta``; for each, the checkpoint with the smallest value is kept, too.
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
        found = sorted(self.list_checkpoints(), key=ckpt_recency, reverse=True)
        kept = [
            min(found, key=lambda c: (smallness(c, key), -ckpt_recency(c)))
            for key in min_keys
            if found
        ]
        kept += [checkpoint for checkpoint in found[:newest] if checkpoint not in kept]
        paths = {checkpoint.path for checkpoint in kept[:at_most]}
        for folder in self._list_checkpoint_dirs():
            if folder not in paths:
                _delete(folder)

    def _list_checkpoint_dirs(self):
        return sorted(self.checkpoints_dir.glob("CKPT+*"))

    def list_checkpoints(self):
        """Checkpoints whose description can be read."""
        return describe(self._list_checkpoint_dirs())

    def recover_if_possible(self, importance_key=None, max_key=None, min_key=None):
        """Load the newest checkpoint, or the best by a key, that is whole.

        Returns
        -------
        Checkpoint or None
            None: there is none, or none with the key.

        Raises
        ------
        BadInput
            If there are checkpoints, and all of them are damaged.
        """
        ddp_barrier()
        if if_main_process():
            self._clear_away()
        folders = self._list_checkpoint_dirs()
        ranked = self.find_checkpoints(importance_key, max_key, min_key)
        if not folders or (not ranked and self.list_checkpoints()):
            return None
        whole = first_whole(ranked, folders)
        self._use_safe_hooks()
        self.load_checkpoint(whole)
        return whole

    def _use_safe_hooks(self):
        """Where SpeechBrain would use plain ``torch.save`` and ``torch.load``."""
        for name, recoverable in self.recoverables.items():
            if get_default_hook(recoverable, DEFAULT_SAVE_HOOKS) is torch_save:
                self.custom_save_hooks[name] = _save_state
                self.custom_load_hooks[name] = _load_state


def _save_state(recoverable, path):
    save_tensors(recoverable.state_dict(), path)


def _load_state(recoverable, path, end_of_epoch):
    recoverable.load_state_dict(load_tensors(path))


def _delete(folder):
    """Out of sight first: what a kill leaves of it is no checkpoint."""
    hidden = folder.with_name(f"{PARTIAL}old+{folder.name}")
    folder.rename(hidden)
    shutil.rmtree(hidden)
