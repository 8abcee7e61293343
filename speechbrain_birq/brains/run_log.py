"""Figures of a run: JSON lines and TensorBoard scalars."""

import json
import logging
import time
from pathlib import Path
from typing import Any

from speechbrain.utils.checkpoints import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from speechbrain.utils.distributed import if_main_process

from speechbrain_birq.checkpoints import files
from speechbrain_birq.checkpoints.plain_files import (
    corruption_named,
    read_json,
    read_json_entries,
)
from speechbrain_birq.metrics.curves import read_metrics

logger = logging.getLogger(__name__)


@register_checkpoint_hooks
class RunLog:
    """Writes ``metrics.jsonl`` and ``tensorboard/`` of a run folder.

    A checkpoint holds the length of ``metrics.jsonl``. A resumed run drops the lines
    after it, because it is about to write them again. Lines for which the disk has no
    room are kept and written with the next ones.

    Arguments
    ---------
    folder : str or Path
        The run folder.
    tensorboard : bool
        Whether to write ``tensorboard/``, too; needs the extra ``track``.
    """

    def __init__(self, folder: str | Path, tensorboard: bool = True) -> None:
        self.path = Path(folder) / "metrics.jsonl"
        self.tensorboard = tensorboard
        self.writer: Any = None
        self.unwritten: list[str] = []
        self.purge_step: int | None = None
        self.recovered: dict[str, Any] = {"bytes": 0, "seconds": 0.0}
        self.started = time.monotonic()

    def report(self, stage: str, step: int, figures: dict[str, float]) -> None:
        """Write the figures of one stage at one optimizer step."""
        if not if_main_process():
            return
        row = {"stage": stage, "step": step, **figures}
        self.unwritten.append(json.dumps(row) + "\n")
        try:
            self._write()
        except OSError as error:
            logger.warning(
                "%s: %s; the line is written with the next one", self.path, error
            )
        self._to_tensorboard(row)

    def _write(self):
        files.append(self.path, "".join(self.unwritten))
        self.unwritten = []

    @property
    def seconds(self) -> float:
        """Training time summed over restarts.

        Work after the last checkpoint of a killed run is not counted.
        """
        return self.recovered["seconds"] + time.monotonic() - self.started

    @mark_as_saver
    def save(self, path: Path) -> None:
        """Write all lines, then save the length of ``metrics.jsonl``."""
        self._write()
        files.flush(self.path)
        state = {"bytes": self.path.stat().st_size, "seconds": self.seconds}
        path.write_text(json.dumps(state), encoding="utf-8")

    @mark_as_loader
    def load(self, path: Path, end_of_epoch: bool) -> None:
        """Restore it; ``resume`` changes the files."""
        state = read_json(path, "delete this checkpoint")
        with corruption_named(path, "delete this checkpoint"):
            self.recovered = {
                "bytes": int(state["bytes"]),
                "seconds": float(state["seconds"]),
            }

    def resume(self) -> None:
        """Drop the lines that the checkpoint does not know."""
        self.started = time.monotonic()
        if not self.path.is_file():
            return
        with open(self.path, "rb+") as file:
            known = file.read(self.recovered["bytes"])
            # A cut last line would spoil the line that is appended to it.
            file.truncate(known.rfind(b"\n") + 1)
        rows = read_metrics(self.path.parent)
        self.purge_step = rows[-1]["step"] if rows else 0
        for row in rows:  # purged with the others of its step
            if row["step"] == self.purge_step:
                self._to_tensorboard(row)

    def _to_tensorboard(self, row):
        if self.tensorboard:  # not earlier, because log.txt exists only now
            self.tensorboard = False
            self.writer = _writer(self.path.with_name("tensorboard"), self.purge_step)
        if self.writer is None:
            return
        try:
            for name in row.keys() - {"stage", "step"}:
                self.writer.add_scalar(f"{row['stage']}/{name}", row[name], row["step"])
            self.writer.flush()
        except OSError as error:  # not fatal: metrics.jsonl has the figures, too
            logger.warning("no TensorBoard from now on: %s", error)
            self.writer = None


def _writer(folder, purge_step):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.info('no TensorBoard: pip install "speechbrain_birq[track]"')
        return None
    try:
        return SummaryWriter(folder, purge_step=purge_step)
    except OSError as error:
        logger.warning("no TensorBoard: cannot write %s (%s)", folder, error)
        return None


def read_results(folder: str | Path) -> dict[str, Any]:
    """Return a run folder's ``results.json``; nothing if there is none."""
    path = Path(folder) / "results.json"
    return read_json_entries(path, "delete it") if path.exists() else {}


def add_result(folder: str | Path, key: str, value: Any) -> None:
    """Add or replace one entry of a run folder's ``results.json``."""
    results = read_results(folder) | {key: value}
    path = Path(folder) / "results.json"
    files.write(path, json.dumps(results, indent=2) + "\n")
