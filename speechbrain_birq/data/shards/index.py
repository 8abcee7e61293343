"""The small files of a folder of shards: index, columns, tables and cuts."""

import gzip
import io
import json
import re
from typing import Any, NamedTuple

import numpy as np

from speechbrain_birq.data.audio_checks import check_header, printable
from speechbrain_birq.data.shards.storage import read
from speechbrain_birq.data.shards.writer import TABLE
from speechbrain_birq.errors import BadInput

LARGEST_INDEX = 2**24  # bytes; 100,000 shards have 5 MB
LARGEST_CUTS = 2**26  # bytes of a shard's cuts, unpacked; an hour of audio has 0.5 MB
LARGEST_CUT = 2**20  # bytes of a line of them; as JSON, it may take 25 times as much


class Label(NamedTuple):
    """Name, speaker and transcript of an utterance, as its cut gives them."""

    id: str
    speaker: str
    text: str


def read_index(root: str) -> dict[str, Any]:
    """Read ``index.json``: the sampling rate and the shards.

    Raises
    ------
    BadInput
        If there is none, or it is corrupt.
    """
    try:
        read(root, "index.json", start=0, size=1)  # does the server know Range?
        index = json.loads(read(root, "index.json", largest=LARGEST_INDEX))
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
        # The name becomes a part of paths.
        if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name):
            raise ValueError(f"a shard called {name!r}")


def read_column(root: str, file: str, dtype: np.dtype) -> np.ndarray:
    """Read ``samples.npy`` or ``texts.npy``: (utterances,), of all shards.

    Raises
    ------
    OSError, ValueError
        If it cannot be read, or holds anything else.
    """
    return _array(read(root, file), dtype)


def read_table(root: str, name: str, count: int) -> np.ndarray:
    """Read where the utterances of a shard lie: (count,) of ``TABLE``.

    Raises
    ------
    ValueError
        If it cannot be read, or has another number of rows.
    """
    try:
        table = _array(read(root, f"tables/{name}.npy"), TABLE)
        if len(table) != count:
            raise ValueError(f"{len(table)} rows for {count} utterances")
        return table
    except (OSError, ValueError) as error:
        raise ValueError(f"its table: {error}") from error


def _array(data, dtype):
    try:
        array = np.load(io.BytesIO(data))
    except Exception as error:  # NumPy raises many kinds
        raise ValueError(str(error)) from error
    if getattr(array, "dtype", None) != dtype or array.ndim != 1:
        raise ValueError("not the numbers that belong there")
    return array


def read_labels(root: str, name: str, count: int) -> list[Label]:
    """Read the labels of a shard from its cuts.

    Raises
    ------
    ValueError
        If they cannot be read, or are another number.
    """
    try:
        packed = io.BytesIO(read(root, f"shar/cuts.{name}.jsonl.gz"))
        with gzip.GzipFile(fileobj=packed) as file:
            labels = [_label(json.loads(line)) for line in _lines(file, count)]
        if len(labels) != count:
            raise ValueError(f"{len(labels)} lines for {count} utterances")
        return labels
    except Exception as error:  # gzip, zlib and JSON raise many kinds
        raise ValueError(one_line(error)) from error


def _lines(file, count):
    """The lines of the cuts; a bomb ends them."""
    total = 0
    for number, line in enumerate(iter(lambda: file.readline(LARGEST_CUT + 1), b"")):
        total += len(line)
        if len(line) > LARGEST_CUT or total > LARGEST_CUTS:
            raise ValueError(
                f"they unpack to more than {LARGEST_CUTS} bytes, or a line of them to "
                f"more than {LARGEST_CUT}"
            )
        if number >= count:
            raise ValueError(f"more than {count} lines for {count} utterances")
        yield line


def _label(cut):
    (supervision,) = cut["supervisions"]
    label = Label(
        cut["id"], supervision.get("speaker", ""), supervision.get("text", "")
    )
    if not all(isinstance(field, str) for field in label):
        raise TypeError("a name or a transcript is no text")
    return label


def one_line(error: Exception) -> str:
    """Return what an error says, as a part of a sentence."""
    return printable(str(error).replace("\n", " "))[:200]
