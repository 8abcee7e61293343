"""What a run says on the terminal and in log.txt, and what it leaves out."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import speechbrain as sb
import torch.distributed as dist
from speechbrain.utils.logger import format_order_of_magnitude

from speechbrain_birq.errors import LIBRARIES

if TYPE_CHECKING:
    from speechbrain_birq.brains.base import SumBrain

logger = logging.getLogger(__name__)

CONFIG = Path(__file__).with_name("log_config.yaml")


class Relevant(logging.Filter):
    """Keeps all messages of this package, of libraries warnings and errors only.

    Messages of the user's own packages are kept from INFO up.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a message is kept."""
        package = record.name.partition(".")[0]
        if package == "speechbrain_birq":
            return True
        lowest = logging.WARNING if package in LIBRARIES else logging.INFO
        return record.levelno >= lowest


class TerminalFormatter(logging.Formatter):
    """Writes a message as it is; a warning says that it is one, and whose."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a message."""
        text = super().format(record)
        if record.levelno < logging.WARNING:
            return text
        package = record.name.partition(".")[0]
        source = "" if package == "speechbrain_birq" else f" ({package})"
        return f"{record.levelname.lower()}{source}: {text}"


def begin_log(folder: str | Path) -> None:
    """Make the run folder and send messages to the terminal and to its ``log.txt``."""
    sb.create_experiment_directory(folder, log_config=CONFIG, save_env_desc=False)
    # SpeechBrain copies the file that calls it: a recipe as a rule, here this file.
    (Path(folder) / Path(__file__).name).unlink(missing_ok=True)


def introduce(brain: "SumBrain") -> None:
    """Log what is trained, from which step on, and how to read the reports."""
    trained = sum(p.numel() for p in brain.model.parameters() if p.requires_grad)
    ranks = dist.get_world_size() if dist.is_initialized() else 1
    logger.info(
        "training %s parameters in %s on %s%s%s",
        format_order_of_magnitude(trained),
        brain.precision,
        brain.device,
        f", {ranks} processes" if ranks > 1 else "",
        f", from step {brain.optimizer_step:,} on" if brain.optimizer_step else "",
    )
    if brain.legend:
        logger.info(brain.legend)
