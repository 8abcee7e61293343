"""Hugging Face datasets as own corpora: audio files and a table of them."""

import csv
import fcntl
import hashlib
import logging
import os
from pathlib import Path
from typing import Any

from tqdm import tqdm

from speechbrain_birq.checkpoints.files import check_free_space, new_folder
from speechbrain_birq.data.audio_checks import printable
from speechbrain_birq.data.corpora.audiofolder import METADATA
from speechbrain_birq.data.corpora.manifests import AUDIO, SPEAKER, TEXT
from speechbrain_birq.data.headers import cache_folder
from speechbrain_birq.data.manifest import some_of
from speechbrain_birq.data.split_places import HUB, has_parquet
from speechbrain_birq.errors import BadInput

logger = logging.getLogger(__name__)

SAVED = ("state.json", "dataset_dict.json")  # what save_to_disk writes
IN_FOLDER = 1000  # files of one folder


def is_dataset(folder: Path) -> bool:
    """Return whether the package datasets has written a folder, or parquet is in it."""
    return any((folder / name).is_file() for name in SAVED) or has_parquet(folder)


def unpacked(source: str | Path, split: str | None = None) -> Path:
    """Write the audio of a dataset as files, once; return the table of them.

    They are kept in the user's cache folder (``$XDG_CACHE_HOME`` or ``~/.cache``),
    because a manifest lists files. Deleting them does no harm. Files that the dataset
    only refers to are not copied.

    Arguments
    ---------
    source : str or Path
        Folder, or ``hf:owner/name[/config][/split]`` for one on the hub.
    split : str, optional
        A split of the folder.

    Returns
    -------
    Path
        CSV with the columns ``file_name``, ``text``, ``speaker`` and ``id``, as far as
        the dataset has them.

    Raises
    ------
    BadInput
        If datasets is not installed, or the dataset cannot be loaded, has no audio, or
        several splits of which none is named.
    """
    dataset, columns = _with_bytes(_loaded(source, split), source)
    key = f"{dataset._fingerprint} {sorted(columns.items())}"
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    folder = cache_folder() / "datasets" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f"{name}.lock"), "wb") as lock:
        # Another run may be at it: wait, and use what it has written.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            logger.info("%s: writes its audio to %s", source, printable(folder))
            advice = "make room, or set XDG_CACHE_HOME to another disk"
            check_free_space(folder, dataset.data.nbytes, advice)
            with new_folder(folder) as partial:
                _write(dataset, columns, partial)
    return folder / METADATA[0]


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise BadInput(
            "Hugging Face datasets are read with the package datasets: pip install "
            '"speechbrain_birq[large]"'
        ) from error
    return datasets


def _loaded(source, split):
    """A ``datasets.Dataset``"""
    on_hub = hub_name(str(source)) if str(source).startswith(HUB) else None
    datasets = _datasets()
    try:
        if on_hub is not None:
            name, config, split = on_hub
            found = datasets.load_dataset(name, config, split=split)
        elif (Path(source) / SAVED[0]).is_file() or (Path(source) / SAVED[1]).is_file():
            found = datasets.load_from_disk(str(source))
        else:
            found = datasets.load_dataset(str(source), split=split)
    except Exception as error:  # datasets and the hub raise many kinds
        reason = " ".join(str(error).split())[:250]
        raise BadInput(f"cannot load the dataset {source}: {reason}") from error
    if not isinstance(found, dict):
        return found
    if len(found) > 1:
        raise BadInput(
            f"the dataset {source} has the splits {', '.join(found)}: name one, as in "
            f"{source}/{next(iter(found))}"
        )
    return next(iter(found.values()))


def hub_name(source: str) -> tuple[str, str | None, str | None]:
    """Return name, configuration and split of a dataset on the hub.

    Raises
    ------
    BadInput
        If it is written otherwise.

    Example
    -------
    >>> hub_name("hf:openslr/librispeech_asr/clean/test")
    ('openslr/librispeech_asr', 'clean', 'test')
    >>> hub_name("hf:owner/name/train")
    ('owner/name', None, 'train')
    """
    parts = source.removeprefix(HUB).split("/")
    if not 2 <= len(parts) <= 4 or not all(parts):
        raise BadInput(
            f"{source} is no dataset on the hub: give {HUB}owner/name/split or "
            f"{HUB}owner/name/config/split"
        )
    owner, name, *rest = parts
    config = rest[0] if len(rest) == 2 else None
    return f"{owner}/{name}", config, rest[-1] if rest else None


def _with_bytes(dataset, source):
    """The dataset with encoded audio, and {our column: the dataset's}."""
    audio = _datasets().Audio
    features = dataset.features
    decoded = [name for name in features if isinstance(features[name], audio)]
    # Parquet of another program has the same column without its kind.
    encoded = [
        name
        for name, kind in features.items()
        if isinstance(kind, dict) and "bytes" in kind
    ]
    choices = {
        "file_name": [*decoded, *encoded, *AUDIO],
        "text": TEXT,
        "speaker": SPEAKER,
        "id": ["id"],
    }
    columns = {
        ours: next(name for name in names if name in features)
        for ours, names in choices.items()
        if any(name in features for name in names)
    }
    if "file_name" not in columns:
        raise BadInput(
            f"the dataset {source} has no audio (columns {', '.join(features)})"
        )
    dataset = dataset.select_columns(list(dict.fromkeys(columns.values())))
    if columns["file_name"] in decoded:
        # Decoding would need torchcodec.
        plain = audio(decode=False)
        dataset = dataset.cast_column(columns["file_name"], plain)
    return dataset, columns


def _write(dataset, columns, folder):
    silent = []
    with open(folder / METADATA[0], "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        for number, row in enumerate(tqdm(dataset, "audio", disable=None)):
            cells = {ours: row[name] for ours, name in columns.items()}
            cells["file_name"] = _file(cells["file_name"], number, folder)
            if cells["file_name"]:
                table.writerow({name: _plain(cell) for name, cell in cells.items()})
            else:
                silent.append(f"{number}")
    if silent:
        logger.warning(
            "%d of %d rows of the dataset have no audio and are left out: rows %s",
            *(len(silent), len(dataset), some_of(silent)),
        )


def _file(audio, number, folder):
    """The file of a row, written if its bytes are in the dataset."""
    if not isinstance(audio, dict):
        return audio
    path, data = audio.get("path") or "", audio.get("bytes")
    if data is None:
        return path and os.path.abspath(path)
    place = f"{number // IN_FOLDER:04d}"
    (folder / place).mkdir(exist_ok=True)
    name = f"{place}/{number:07d}{Path(path).suffix[:8]}"
    (folder / name).write_bytes(data)
    return name


def _plain(cell):
    text = "" if cell is None else str(cell)
    return text.replace("\0", " ").encode("utf-8", "replace").decode()
