"""Which checkpoint of a folder can be used: descriptions and checksums."""

import logging
import math
from pathlib import Path

import ruamel.yaml
from speechbrain.utils.checkpoints import METAFNAME, Checkpoint

from speechbrain_birq.checkpoints import files
from speechbrain_birq.errors import BadInput

logger = logging.getLogger(__name__)


def read_checkpoint(folder) -> Checkpoint:
    """A checkpoint's description.

    Raises
    ------
    BadInput
        If it is damaged.
    """
    path = Path(folder) / METAFNAME
    try:
        meta = ruamel.yaml.YAML(typ="safe", pure=True).load(path)
        meta["unixtime"], meta["end-of-epoch"] = (
            float(meta["unixtime"]),
            bool(meta["end-of-epoch"]),
        )
    except (
        ruamel.yaml.YAMLError,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        OSError,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{path} is damaged ({reason})") from error
    files = {file.stem: file for file in Path(folder).glob("*.ckpt")}
    return Checkpoint(Path(folder), meta, files)


def describe(folders, reasons=None) -> list[Checkpoint]:
    """Descriptions of checkpoints; those that are damaged are named in a warning.

    Arguments
    ---------
    folders : list of Path
    reasons : list, optional
        Gets a sentence for each damaged one.
    """
    found, reasons = [], [] if reasons is None else reasons
    for folder in folders:
        try:
            found.append(read_checkpoint(folder))
        except BadInput as error:
            reasons.append(str(error))
            logger.warning("passed over a checkpoint: %s", error)
    return found


def smallness(checkpoint, key) -> float:
    """The value of a key in the description, infinite if it has none."""
    try:
        return float(checkpoint.meta.get(key, math.inf))
    except (TypeError, ValueError):
        return math.inf


def first_whole(ranked, folders, names=None) -> Checkpoint:
    """The first of some checkpoints whose files are as they were written.

    Arguments
    ---------
    ranked : list of Checkpoint
    folders : list of Path
        Of all checkpoints, those without a readable description included.
    names : list, optional
        Of the files to verify; all by default.

    Raises
    ------
    BadInput
        If there is none.
    """
    reasons = []
    for checkpoint in ranked:
        problem = files.damage(checkpoint.path, names)
        if problem is None:
            return checkpoint
        reasons.append(f"{checkpoint.path} is damaged ({problem})")
        logger.warning("passed over a checkpoint: %s", reasons[-1])
    known = {checkpoint.path for checkpoint in ranked}
    describe([folder for folder in folders if folder not in known], reasons)
    raise BadInput(
        f"no checkpoint in {folders[0].parent} can be used; "
        f"{'; '.join(reasons)[:300]}: "
        f"give another output folder, or delete it to begin anew"
    )
