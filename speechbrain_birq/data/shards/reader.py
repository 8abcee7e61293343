"""Reads shards: the index at the start, everything else when it is needed."""

import gzip
import io
import json
import logging
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from speechbrain_birq.data.audio_checks import check_header, printable
from speechbrain_birq.data.shards.storage import is_url, read, read_pieces
from speechbrain_birq.data.shards.writer import TABLE
from speechbrain_birq.errors import BadInput

logger = logging.getLogger(__name__)


class Label(NamedTuple):
    """What the cuts say of an utterance."""

    id: str
    speaker: str
    text: str


def find_shards(data_folder, split):
    """The shards of a split, or None if it is a folder of audio files.

    Arguments
    ---------
    data_folder : str or Path
        Folder or URL above the splits.
    split : str
        "+" joins several.

    Returns
    -------
    Shards or None

    Raises
    ------
    BadInput
        If the index cannot be read, writing is not finished, or some of the joined
        splits are shards and others are not.
    """
    roots = [f"{str(data_folder).rstrip('/')}/{part}" for part in split.split("+")]
    sharded = [is_url(root) or _has_shards(Path(root)) for root in roots]
    if not any(sharded):
        return None
    if not all(sharded):
        raise BadInput(
            f"the split {split!r} of {data_folder} joins shards and folders of audio "
            f"files: make shards of all with `birq shard`"
        )
    return Shards(roots)


def _has_shards(folder):
    if (folder / "tables").is_dir() and not (folder / "index.json").is_file():
        raise BadInput(
            f"the shards in {folder} are not finished: give the command that writes "
            f"them again"
        )
    return (folder / "index.json").is_file()


class Shards:
    """Utterances of one or more folders of shards, numbered from 0.

    In memory stands 4 bytes an utterance; tables and cuts of a shard are read when one
    of its utterances is, and the last ``KEPT`` of them stay.

    Arguments
    ---------
    roots : list of str
        Folders or URLs, each with an ``index.json``.

    Raises
    ------
    BadInput
        If an index cannot be read or the folders have several sampling rates.
    """

    def __init__(self, roots):
        indexes = [_read_index(root) for root in roots]
        rates = {index["sample_rate"] for index in indexes}
        if len(rates) > 1:
            raise BadInput(
                f"{', '.join(roots)} have several rates ({', '.join(map(str, rates))} "
                f"Hz): join splits of one rate"
            )
        self.roots, (self.sample_rate,) = roots, rates
        self.places = [
            (root, shard["name"])
            for root, index in zip(roots, indexes, strict=True)
            for shard in index["shards"]
        ]
        sizes = [shard["utterances"] for index in indexes for shard in index["shards"]]
        self.first = np.cumsum([0, *sizes])  # number of each shard's first utterance
        self.samples = self._column("samples.npy", TABLE["samples"])

    def __len__(self):
        return int(self.first[-1])

    def __str__(self):
        return " + ".join(self.roots)

    def has_text(self) -> np.ndarray:
        """(utterances,) bool: which have a transcript."""
        return self._column("texts.npy", TABLE["text"])

    def texts(self):
        """All transcripts that are not empty, shard after shard.

        Raises
        ------
        BadInput
            If the cuts of a shard cannot be read.
        """
        for (root, name), size in zip(self.places, np.diff(self.first), strict=True):
            labels = _labels(root, name, int(size))
            if isinstance(labels, Exception):
                raise BadInput(
                    f"{root}: cuts of shard {name} unreadable ({one_line(labels)})"
                )
            yield from (label.text for label in labels if label.text)

    def label(self, number) -> Label:
        """Name, speaker and transcript of an utterance."""
        (root, name), row = self._place(number)
        labels = _labels(root, name, self._size(number))
        if isinstance(labels, Exception):
            return Label(f"{name}-{row}", "", "")
        return labels[row]

    def name(self, number) -> str:
        """Where an utterance lies, for messages."""
        (root, name), row = self._place(number)
        return f"{root}/shar/recording.{name}.tar (utterance {row})"

    def audio(self, numbers) -> list:
        """Encoded audio.

        Arguments
        ---------
        numbers : list of int

        Returns
        -------
        list
            For each number (name, ``BytesIO`` or the error). What is wrong with a whole
            shard has the name of its file, so that it can be told once.
        """
        pieces = [self._piece(number) for number in numbers]
        wanted = [piece for piece in pieces if not isinstance(piece, Exception)]
        found = iter(read_pieces(wanted))
        return [
            self._named(number, piece if isinstance(piece, Exception) else next(found))
            for number, piece in zip(numbers, pieces, strict=True)
        ]

    def _named(self, number, data):
        if isinstance(data, bytes):
            return self.name(number), io.BytesIO(data)
        whole = isinstance(data, (FileNotFoundError, ValueError))
        name = self.name(number)
        return (name.split(" (")[0] if whole else name), data

    def _piece(self, number):
        """(root, file, start, size) of the audio, or why there is none."""
        (root, name), row = self._place(number)
        table = _table(root, name, self._size(number))
        if isinstance(table, Exception):
            return table
        row = table[row]
        return root, f"shar/recording.{name}.tar", int(row["start"]), int(row["size"])

    def _place(self, number):
        shard = self._shard(number)
        return self.places[shard], int(number - self.first[shard])

    def _size(self, number):
        """Utterances of the shard that holds this one."""
        shard = self._shard(number)
        return int(self.first[shard + 1] - self.first[shard])

    def _shard(self, number):
        return int(np.searchsorted(self.first, number, "right")) - 1

    def _column(self, file, dtype):
        try:
            columns = [_array(read(root, file), dtype) for root in self.roots]
        except (OSError, ValueError) as error:
            raise BadInput(
                f"{file} of the shards in {self} unreadable: {one_line(error)}"
            ) from error
        column = columns[0] if len(columns) == 1 else np.concatenate(columns)
        if len(column) != len(self):
            raise BadInput(
                f"{file} and index.json of the shards in {self} do not belong "
                f"together: give the command that writes them again"
            )
        return column


KEPT = 64  # shards whose tables and cuts a process remembers: 0.3 MB an hour of audio


def _read_index(root):
    try:
        read(root, "index.json", start=0, size=1)  # does the server know Range?
        index = json.loads(read(root, "index.json"))
        _check_index(index)
        return index
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise BadInput(
            f"no shards in {root}: its index.json cannot be read ({one_line(error)}); "
            f"make it with `birq shard`"
        ) from error


def _check_index(index):
    rate, shards = index["sample_rate"], index["shards"]
    if type(rate) is not int or not isinstance(shards, list):
        raise ValueError("no whole number of Hz, or no list of shards")
    check_header(rate, 1)
    for shard in shards:
        name, count = shard["name"], shard["utterances"]
        if type(count) is not int or not 0 <= count < 2**32:
            raise ValueError(f"{count!r} utterances")
        if not isinstance(name, str) or not name.isalnum():  # it becomes a path
            raise ValueError(f"a shard called {name!r}")


def one_line(error) -> str:
    """What an error says, as a part of a sentence."""
    return printable(str(error).replace("\n", " "))[:200]


# Errors are remembered, too: a shard that is gone is asked for once.


@lru_cache(maxsize=KEPT)
def _table(root, name, count):
    try:
        table = _array(read(root, f"tables/{name}.npy"), TABLE)
        if len(table) != count:
            raise ValueError(f"{len(table)} rows for {count} utterances")
        return table
    except (OSError, ValueError) as error:
        return ValueError(f"its table: {error}")


def _array(data, dtype):
    try:
        array = np.load(io.BytesIO(data))
    except Exception as error:  # NumPy raises many kinds
        raise ValueError(str(error)) from error
    if getattr(array, "dtype", None) != dtype or array.ndim != 1:
        raise ValueError("not the numbers that belong there")
    return array


@lru_cache(maxsize=KEPT)
def _labels(root, name, count):
    try:
        lines = gzip.decompress(read(root, f"shar/cuts.{name}.jsonl.gz")).splitlines()
        if len(lines) != count:
            raise ValueError(f"{len(lines)} lines for {count} utterances")
        return [_label(json.loads(line)) for line in lines]
    except Exception as error:  # gzip, zlib and JSON raise many kinds
        reason = one_line(error)
        logger.warning("cuts of shard %s in %s unreadable (%s)", name, root, reason)
        return ValueError(str(error))


def _label(cut):
    (supervision,) = cut["supervisions"]
    label = Label(
        cut["id"], supervision.get("speaker", ""), supervision.get("text", "")
    )
    if not all(isinstance(field, str) for field in label):
        raise TypeError("a name or a transcript is no text")
    return label
