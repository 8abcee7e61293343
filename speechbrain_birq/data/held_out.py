"""Validation without a split of its own: a share of training is held out."""

import logging
from hashlib import sha256
from pathlib import Path

from speechbrain_birq.data.manifest import read_manifest, write_manifest
from speechbrain_birq.data.split_places import held_out_share
from speechbrain_birq.errors import BadInput

logger = logging.getLogger(__name__)

MOST_HELD_OUT = 500  # utterances: an hour or so, validated after each epoch


def hold_out(train: Path, valid: Path, split: str) -> None:
    """Move a share of a training manifest to one for validation.

    The share is of the utterances that have a text, if there are any. Which they are
    depends on their names only, so that a resumed run has the same.

    Arguments
    ---------
    train, valid : Path
        The manifests.
    split : str
        Such as "5%".

    Raises
    ------
    BadInput
        If there are fewer than two utterances.
    """
    rows = read_manifest(train)
    usable = [row for row in rows if row.text] or rows
    if len(usable) < 2:
        raise BadInput(
            f"{split} of one utterance cannot be held out of training: give "
            f"--valid_split"
        )
    share = held_out_share(split) or 0.0
    count = min(max(1, round(share * len(usable))), MOST_HELD_OUT, len(usable) - 1)
    ordered = sorted(usable, key=lambda row: sha256(row.ID.encode()).digest())
    held = {row.ID for row in ordered[:count]}
    write_manifest(valid, (row for row in rows if row.ID in held))
    write_manifest(train, (row for row in rows if row.ID not in held))
    logger.warning(
        "validation takes %d of the %d utterances of training (%s, at most %d), which "
        "are not trained on: its speakers are those of training; give --valid_split "
        "to choose others",
        *(count, len(rows), split, MOST_HELD_OUT),
    )
