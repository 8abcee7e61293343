"""Read text, JSON and YAML: whatever is wrong with a file is one sentence."""

import json
import logging
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import ruamel.yaml

from speechbrain_birq.errors import BadInput, from_user_code

logger = logging.getLogger(__name__)

MAX_DEPTH = 100
YAML_BYTES = 2**18  # ruamel.yaml needs seconds for these; a run folder's have 10 kB
JSON_BYTES = 2**24  # at worst (empty objects) these become 400 MB of memory
JSON_LINES_BYTES = 2**26  # 100,000 reports of a run

# What the parsers raise, and code that expects another shape than the file has.
CORRUPT = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    ruamel.yaml.YAMLError,
)


@contextmanager
def corruption_named(path: str | Path, advice: str = "") -> Iterator[None]:
    """Turn what goes wrong with the content of a file into one sentence.

    Arguments
    ---------
    path : str or Path
    advice : str
        How the message ends: what to do about it.

    Raises
    ------
    BadInput

    Example
    -------
    >>> with corruption_named("results.json", "delete it"):
    ...     {"wer": 1.0}["cer"]
    Traceback (most recent call last):
    speechbrain_birq.errors.BadInput: results.json is corrupt (KeyError: 'cer'): \
delete it
    """
    try:
        yield
    except CORRUPT as error:
        if from_user_code(error):
            raise
        reason = " ".join(str(error).split())[:200]
        if isinstance(error, OSError):
            reason = error.strerror or reason
        elif isinstance(error, RecursionError):
            reason = "nested too deeply"
        elif isinstance(error, LookupError | AttributeError | TypeError):
            reason = f"{type(error).__name__}: {reason}"
        end = f": {advice}" if advice else ""
        raise BadInput(f"{path} is corrupt ({reason}){end}") from error


def read_text(path: str | Path, advice: str, max_bytes: int = YAML_BYTES) -> str:
    """Read a regular file in UTF-8.

    Arguments
    ---------
    path : str or Path
    advice : str
        How the message ends.
    max_bytes : int
        A longer file is refused before it is read.

    Raises
    ------
    BadInput
        If the file is missing, too long, not regular (a pipe, a device) or no text.

    Example
    -------
    >>> path = getfixture("tmp_path") / "hyperparams.yaml"
    >>> _ = path.write_bytes(b"\\xff")
    >>> read_text(path, "train again")
    Traceback (most recent call last):
    speechbrain_birq.errors.BadInput: ...hyperparams.yaml is corrupt ('utf-8' codec \
can't decode byte 0xff in position 0: invalid start byte): train again
    """
    data = _read_bytes(path, advice, max_bytes)
    with corruption_named(path, advice):
        return data.decode("utf-8")


def _read_bytes(path, advice, max_bytes):
    with corruption_named(path, advice):
        size = _regular_size(path)
        if size > max_bytes:
            raise ValueError(f"{size} bytes, at most {max_bytes} are read")
        return Path(path).read_bytes()


def _regular_size(path):
    status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not a regular file")
    return status.st_size


def read_json(
    path: str | Path, advice: str, kind: type = dict, max_bytes: int = JSON_BYTES
) -> Any:
    """Read a JSON file.

    Arguments
    ---------
    path : str or Path
    advice : str
        How the message ends.
    kind : type
        What the file must hold: a ``dict`` or a ``list``.
    max_bytes : int

    Raises
    ------
    BadInput
        As for ``read_text``; if it is no JSON, or of another kind.

    Example
    -------
    >>> path = getfixture("tmp_path") / "results.json"
    >>> _ = path.write_text("[1, 2]")
    >>> read_json(path, "delete it", kind=list)
    [1, 2]
    >>> read_json(path, "delete it")
    Traceback (most recent call last):
    speechbrain_birq.errors.BadInput: ...results.json is corrupt (a list, not a dict): \
delete it
    """
    text = read_text(path, advice, max_bytes)
    with corruption_named(path, advice):
        return _checked(json.loads(text), kind)


def read_json_entries(path: str | Path, advice: str) -> dict[str, Any]:
    """Read a JSON object that was written with ``indent=2``, or what is left of it.

    If the file is corrupt, its complete entries are returned, with a warning.

    Raises
    ------
    BadInput
        If it is no regular file, or too long.

    Example
    -------
    >>> path = getfixture("tmp_path") / "results.json"
    >>> _ = path.write_text('{\\n  "dev": {"wer": 3.5},\\n  "test": {"we')
    >>> read_json_entries(path, "delete it")
    {'dev': {'wer': 3.5}}
    """
    data = _read_bytes(path, advice, JSON_BYTES)
    text = data.decode("utf-8", errors="replace")
    try:
        return _checked(json.loads(text), dict)
    except (ValueError, RecursionError):
        entries = _complete_entries(text)
        logger.warning("%s is corrupt: it keeps %s", path, list(entries) or "nothing")
        return entries


def _complete_entries(text):
    entries = {}
    for key in re.finditer(r'^  ("[^"\n]*"): ', text, re.MULTILINE):
        try:
            value, end = json.JSONDecoder().raw_decode(text, key.end())
            if text[end : end + 1] in (",", "\n"):  # otherwise a number may be cut
                entries[json.loads(key[1])] = value
        except (ValueError, RecursionError):
            continue
    return entries


def read_json_lines(path: str | Path, advice: str) -> list[dict[str, Any]]:
    """Read a file with a JSON object in each line; skip other lines with a warning.

    The last line is cut if the process that wrote it was killed. Of a file that is too
    long the last lines are read, with a warning: a training that reports every step
    writes that much.

    Raises
    ------
    BadInput
        If it is no regular file.

    Example
    -------
    >>> path = getfixture("tmp_path") / "metrics.jsonl"
    >>> _ = path.write_text('{"step": 1}\\n{"step": 2}\\n{"st')
    >>> read_json_lines(path, "delete it")
    [{'step': 1}, {'step': 2}]
    """
    rows, skipped = [], []
    lines = _last_bytes(path, advice, JSON_LINES_BYTES).splitlines()
    for number, line in enumerate(lines, 1):
        try:
            rows.append(_checked(json.loads(line), dict))
        except (ValueError, RecursionError):
            skipped.append(number)
    if skipped:
        logger.warning(
            "%s: skipped %d lines that are no JSON objects, the first is line %d",
            *(path, len(skipped), skipped[0]),
        )
    return rows


def _last_bytes(path, advice, max_bytes):
    """The end of a file, from the start of a line on."""
    with corruption_named(path, advice):
        size = _regular_size(path)
        with open(path, "rb") as file:
            if size > max_bytes:
                logger.warning(
                    "%s has %d MB: only the last %d MB are read",
                    *(path, size // 2**20, max_bytes // 2**20),
                )
                file.seek(size - max_bytes - 1)
                max_bytes -= len(file.readline(max_bytes)) - 1
            return file.read(max_bytes)


def read_yaml(path: str | Path, advice: str = "") -> dict[str, Any]:
    """Read a YAML mapping of plain values; tags are refused.

    Raises
    ------
    BadInput
        As for ``read_text``; if it is no YAML, or no mapping.

    Example
    -------
    >>> path = getfixture("tmp_path") / "CKPT.yaml"
    >>> _ = path.write_text("cer: 3.5")
    >>> read_yaml(path, "delete it")
    {'cer': 3.5}
    """
    text = read_yaml_text(path, advice)
    with corruption_named(path, advice):
        return _checked(ruamel.yaml.YAML(typ="safe", pure=True).load(text), dict)


def read_yaml_text(path: str | Path, advice: str) -> str:
    """Read a YAML file as text; the time to parse it is bounded.

    Raises
    ------
    BadInput
        As for ``read_text``; if it is nested too deeply.
    """
    text = read_text(path, advice)
    check_depth(text, path, advice)
    return text


def check_depth(text: str, path: str | Path, advice: str) -> None:
    """Refuse YAML whose brackets are nested too deeply.

    Raises
    ------
    BadInput
    """
    with corruption_named(path, advice):
        # The time to parse brackets grows with the square of their depth.
        steps = ((c in "[{") - (c in "]}") for c in text)
        if max(accumulate(steps), default=0) > MAX_DEPTH:
            raise RecursionError


def _checked(value, kind):
    if not isinstance(value, kind):
        raise ValueError(f"a {type(value).__name__}, not a {kind.__name__}")
    return value
