"""Which checkpoint of a folder can be used: descriptions and checksums."""

import logging
import math
from collections.abc import Collection, Sequence
from pathlib import Path

from speechbrain.utils.checkpoints import METAFNAME, Checkpoint

from speechbrain_birq.checkpoints import files
from speechbrain_birq.checkpoints.plain_files import corruption_named, read_yaml
from speechbrain_birq.errors import BadInput

SAVE_NUMBER = "save-number"  # in CKPT.yaml: 1, 2, ... within a run folder

logger = logging.getLogger(__name__)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint's description.

    Raises
    ------
    BadInput
        If it is corrupt.
    """
    path = folder / METAFNAME
    meta = read_yaml(path)
    with corruption_named(path):
        meta["unixtime"] = float(meta["unixtime"])
        meta["end-of-epoch"] = bool(meta["end-of-epoch"])
        meta["step"] = int(meta.get("step", 0))
        meta[SAVE_NUMBER] = int(meta.get(SAVE_NUMBER, 0))
    return Checkpoint(folder, meta, {file.stem: file for file in folder.glob("*.ckpt")})


def describe(
    folders: Sequence[Path], reasons: list[str] | None = None
) -> list[Checkpoint]:
    """Read the descriptions of checkpoints, skip corrupt ones with a warning.

    Arguments
    ---------
    folders : sequence of Path
    reasons : list, optional
        Gets a sentence for each corrupt one.
    """
    found, reasons = [], [] if reasons is None else reasons
    for folder in folders:
        try:
            found.append(read_checkpoint(folder))
        except BadInput as error:
            reasons.append(str(error))
            logger.warning("skipped a checkpoint: %s", error)
    return found


def save_order(checkpoint: Checkpoint) -> tuple[int, int, float]:
    """Return what the checkpoints of a run are sorted by, the newest last.

    The number of the save decides, because the clock may be set back, and because a
    run that resumes from an older checkpoint comes to the same steps again. Folders
    of earlier versions have no such number: their steps decide, then their time.
    """
    meta = checkpoint.meta
    return meta[SAVE_NUMBER], meta["step"], meta["unixtime"]


def smallness(checkpoint: Checkpoint, key: str) -> float:
    """Return the value of a key in the description, infinite if it has no number."""
    try:
        value = float(checkpoint.meta.get(key, math.inf))
    except (TypeError, ValueError):
        return math.inf
    return math.inf if math.isnan(value) else value


def first_complete(
    ranked: Sequence[Checkpoint],
    folders: Sequence[Path],
    names: Collection[str] | None = None,
) -> Checkpoint:
    """Return the first of some checkpoints whose files are as they were written.

    Arguments
    ---------
    ranked : sequence of Checkpoint
    folders : sequence of Path
        All checkpoints, those without a readable description included.
    names : collection, optional
        The files to verify; all by default.

    Raises
    ------
    BadInput
        If there is none.
    """
    reasons: list[str] = []
    for checkpoint in ranked:
        problem = files.corruption(checkpoint.path, names)
        if problem is None:
            return checkpoint
        reasons.append(f"{checkpoint.path} is corrupt ({problem})")
        logger.warning("skipped a checkpoint: %s", reasons[-1])
    known = {checkpoint.path for checkpoint in ranked}
    describe([folder for folder in folders if folder not in known], reasons)
    raise BadInput(
        f"no checkpoint in {folders[0].parent} can be used; "
        f"{'; '.join(reasons)[:300]}: "
        f"give another output folder, or delete it to begin anew"
    )
