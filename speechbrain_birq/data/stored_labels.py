"""Codes of every utterance, written once and read in training: offline labels.

<folder>/labels.json             what made the codes: see ``StoredLabels.fits``
<folder>/<split>/codes.u16       (T, G) uint16 of all utterances, one after the other
<folder>/<split>/index.json      {utterance: frames}, in that order
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from speechbrain_birq.checkpoints.files import new_folder, write
from speechbrain_birq.checkpoints.plain_files import corruption_named, read_json
from speechbrain_birq.data.split_places import split_name
from speechbrain_birq.errors import BadInput

NAME = "labels.json"
INDEX_BYTES = 2**27  # some 3 million utterances
MAX_CODES = 2**16  # uint16
LABEL_AGAIN = "delete the folder, label again"


def write_labels(
    folder: str | Path,
    split: str,
    utterances: Iterable[tuple[str, torch.Tensor]],
    shape: Mapping[str, Any],
) -> int:
    """Write the codes of a split, atomically.

    Arguments
    ---------
    folder : str or Path
        Holds one folder for each split.
    split : str
        Name of the split.
    utterances : iterable
        (id, codes) of each utterance; codes (T, G) int64.
    shape : mapping
        What a training must have in common with these codes; equal for all splits.

    Returns
    -------
    int
        Frames that were written.

    Raises
    ------
    BadInput
        If there are too many codes, or the folder holds codes of another kind, or the
        split already.

    Example
    -------
    >>> from tempfile import TemporaryDirectory
    >>> shape, codes = {"num_codes": 8, "num_codebooks": 2}, torch.tensor([[1, 5]] * 3)
    >>> with TemporaryDirectory() as folder:
    ...     num_frames = write_labels(folder, "dev", [("utterance-1", codes)], shape)
    ...     labels = StoredLabels(folder).split("dev", ["utterance-1"])
    ...     found = labels("utterance-1", mask=torch.zeros(num_frames))
    >>> found.tolist()
    [[1, 5], [1, 5], [1, 5]]
    """
    folder = Path(folder)
    refuse_other(folder, split, shape)
    lengths = {}
    with new_folder(folder / split_name(split)) as partial:
        with open(partial / "codes.u16", "wb") as file:
            for utterance, codes in utterances:
                file.write(codes.numpy().astype(np.uint16).tobytes())
                lengths[utterance] = len(codes)
        (partial / "index.json").write_text(json.dumps(lengths), encoding="utf-8")
        write(folder / NAME, json.dumps(shape, indent=1) + "\n")
    return sum(lengths.values())


def refuse_other(folder: str | Path, split: str, shape: Mapping[str, Any]) -> None:
    """Refuse before the labeling starts what ``write_labels`` would refuse."""
    if shape["num_codes"] > MAX_CODES:
        raise BadInput(
            f"num_codes {shape['num_codes']}: stored labels have {MAX_CODES} codes at "
            f"most, so pretrain with fewer"
        )
    if (Path(folder) / NAME).is_file():
        StoredLabels(folder).fits(shape)
    if (Path(folder) / split_name(split)).exists():
        raise BadInput(
            f"{folder} holds labels of the split {split!r} already: give another "
            f"--output_folder, or delete it"
        )


class StoredLabels:
    """The folder that ``write_labels`` has filled.

    Arguments
    ---------
    folder : str or Path
        Holds one folder for each split.

    Raises
    ------
    BadInput
        If it is no such folder.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        path = self.folder / NAME
        if not path.is_file():
            raise BadInput(
                f"no stored labels in {folder} ({NAME}): give a folder that "
                f"recipes/LibriSpeech/relabel.py has finished"
            )
        self.shape = read_json(path, LABEL_AGAIN)
        with corruption_named(path, LABEL_AGAIN):
            self.num_codebooks = int(self.shape["num_codebooks"])

    def fits(self, shape: Mapping[str, Any]) -> None:
        """Refuse codes of another front end, of other codebooks or of another layer.

        Arguments
        ---------
        shape : mapping
            Some of the entries that were given to ``write_labels``.

        Raises
        ------
        BadInput
            If an entry differs; the message names the first.
        """
        for name, value in shape.items():
            if self.shape.get(name) != value:
                raise BadInput(
                    f"the labels in {self.folder} have {name} {self.shape.get(name)}, "
                    f"here it is {value}: label again, or take the old value"
                )

    def split(self, name: str, utterances: Iterable[str]) -> "SplitLabels":
        """Open the codes of one split.

        Arguments
        ---------
        name : str
            Name of the split.
        utterances : iterable of str
            Ids whose codes will be asked for.

        Raises
        ------
        BadInput
            If the split, or the codes of an utterance, are missing.
        """
        folder = self.folder / split_name(name)
        if not (folder / "index.json").is_file():
            raise BadInput(
                f"{self.folder} holds no labels of the split {name!r}: relabel a run "
                f"that was pretrained on it, or take its splits"
            )
        labels = SplitLabels(folder, self.num_codebooks)
        missing = [u for u in utterances if u not in labels.spans]
        if missing:
            raise BadInput(
                f"{folder} lacks the labels of {len(missing)} utterances, for "
                f"example of {missing[0]}: they were made from another corpus, label "
                f"again"
            )
        return labels


class SplitLabels:
    """Codes of a split, read where they are needed; a dynamic item.

    Arguments
    ---------
    folder : Path
        The split's own, with ``codes.u16`` and ``index.json``.
    num_codebooks : int
        G

    Raises
    ------
    BadInput
        If the file has another size than its index says.
    """

    def __init__(self, folder: Path, num_codebooks: int):
        index = folder / "index.json"
        lengths = read_json(index, LABEL_AGAIN, max_bytes=INDEX_BYTES)
        with corruption_named(index, LABEL_AGAIN):
            if not all(type(n) is int and 0 <= n < 2**32 for n in lengths.values()):
                raise ValueError("lengths that are no numbers of frames")
        ends = np.cumsum(list(lengths.values()), dtype=np.int64).tolist()
        starts = [0, *ends[:-1]]
        self.spans = dict(zip(lengths, zip(starts, ends, strict=True), strict=True))
        path = folder / "codes.u16"
        expected = 2 * num_codebooks * (ends[-1] if ends else 0)
        size = path.stat().st_size if path.is_file() else 0
        if not expected or size != expected:
            raise BadInput(f"{path} is cut off or empty: delete {folder}, label again")
        codes = np.memmap(path, dtype=np.uint16, mode="r")
        self.codes = codes.reshape(-1, num_codebooks)

    def __call__(self, utterance: str, mask: torch.Tensor) -> torch.Tensor:
        """Return the codes of an utterance: (T, G) int64, for a mask (T,).

        Raises
        ------
        BadInput
            If there are not T of them: padding would become a code.
        """
        start, end = self.spans[utterance]
        if not len(mask):  # its audio cannot be read: the loader leaves it out
            end = start
        if end - start != len(mask):
            raise BadInput(
                f"{utterance} has {len(mask)} frames and {end - start} stored labels: "
                f"its audio is not what it was, label again"
            )
        return torch.from_numpy(self.codes[start:end].astype(np.int64))
