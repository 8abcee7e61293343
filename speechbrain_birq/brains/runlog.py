"""Figures of a run: text, JSON lines and TensorBoard scalars."""

import json
import logging
from pathlib import Path

from speechbrain.utils.distributed import if_main_process

logger = logging.getLogger(__name__)


class RunLog:
    """Writes ``metrics.jsonl``, ``tensorboard/`` and the text log of a run folder.

    Arguments
    ---------
    folder : str or Path
        The run folder.
    tensorboard : bool
        Needs the extra ``track``.
    """

    def __init__(self, folder, tensorboard=True):
        self.path = Path(folder) / "metrics.jsonl"
        self.tensorboard, self.writer = tensorboard, None

    def report(self, stage: str, step: int, figures: dict) -> None:
        """Write the figures of one stage at one optimiser step."""
        if not if_main_process():
            return
        shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        logger.info("%s step %d: %s", stage, step, shown)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"stage": stage, "step": step, **figures}) + "\n")
        if self.tensorboard:  # not earlier: log.txt is there only now
            self.tensorboard = False
            self.writer = _writer(self.path.with_name("tensorboard"))
        if self.writer is not None:
            self._report_to_tensorboard(stage, step, figures)

    def _report_to_tensorboard(self, stage, step, figures):
        try:
            for name, value in figures.items():
                self.writer.add_scalar(f"{stage}/{name}", value, step)
            self.writer.flush()
        except OSError as error:  # metrics.jsonl has the figures, too
            logger.warning("no TensorBoard from now on: %s", error)
            self.writer = None


def _writer(folder):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.info('no TensorBoard: pip install "speechbrain_birq[track]"')
        return None
    try:
        return SummaryWriter(folder)
    except OSError as error:
        logger.warning("no TensorBoard: cannot write %s (%s)", folder, error)
        return None
