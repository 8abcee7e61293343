"""Which checkpoint of a folder can be used: descriptions and checksums."""

import logging
import math
from collections.abc import Collection, Sequence
from pathlib import Path

import ruamel.yaml
from speechbrain.utils.checkpoints import METAFNAME, Checkpoint

from speechbrain_birq.checkpoints import files
from speechbrain_birq.errors import BadInput

logger = logging.getLogger(__name__)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint's description.

    Raises
    ------
    BadInput
        If it is corrupt.
    """
    path = folder / METAFNAME
    try:
        meta = ruamel.yaml.YAML(typ="safe", pure=True).load(path)
        meta["unixtime"] = float(meta["unixtime"])
        meta["end-of-epoch"] = bool(meta["end-of-epoch"])
    except (
        ruamel.yaml.YAMLError,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        OSError,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{path} is corrupt ({reason})") from error
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


def smallness(checkpoint: Checkpoint, key: str) -> float:
    """Return the value of a key in the description, infinite if it has none."""
    try:
        return float(checkpoint.meta.get(key, math.inf))
    except (TypeError, ValueError):
        return math.inf


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
