"""Find the recordings that a command is given: files, and all files of folders."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from speechbrain_birq.data.files_below import files_below
from speechbrain_birq.data.formats import AUDIO_SUFFIXES, OTHER_SUFFIXES, recordings
from speechbrain_birq.errors import BadInput


def audio_files(inputs: Iterable[str]) -> dict[str, Path]:
    """List files as they are, and the audio at any depth below folders.

    Arguments
    ---------
    inputs : iterable of str
        Files and folders.

    Returns
    -------
    dict
        file -> its path below the folder that was given, or its name

    Raises
    ------
    BadInput
        If a folder holds no audio.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "a").mkdir()
    >>> (folder / "a" / "x.flac").touch()
    >>> [str(name) for name in audio_files([str(folder)]).values()]
    ['a/x.flac']
    """
    found: dict[str, Path] = {}
    for given in inputs:
        if not Path(given).is_dir():
            found.setdefault(given, Path(Path(given).name))
            continue
        below = files_below(given, (*AUDIO_SUFFIXES, *OTHER_SUFFIXES))
        files = recordings(given, below)
        if not files:
            raise BadInput(
                f"no audio ({', '.join(AUDIO_SUFFIXES)}) in {given}: give another "
                f"folder, or files"
            )
        for file in files:
            found.setdefault(str(file), file.relative_to(given))
    return found


def output_files(
    found: Mapping[str, Path], folder: str | Path, suffix: str
) -> dict[str, Path]:
    """Name the output of each file: a tree that mirrors the folders that were given.

    Arguments
    ---------
    found : mapping
        What ``audio_files`` returns.
    folder : str or Path
        Where the outputs lie.
    suffix : str
        Their ending.

    Raises
    ------
    BadInput
        If two files would have one output.

    Example
    -------
    >>> output_files({"/data/a/x.flac": Path("a/x.flac")}, "out", ".npy")
    {'/data/a/x.flac': PosixPath('out/a/x.npy')}
    """
    sources: dict[Path, str] = {}
    for file, name in found.items():
        target = Path(folder) / name.with_suffix(suffix)
        if target in sources:
            raise BadInput(
                f"{sources[target]} and {file} would both become {target}: run them "
                f"one by one, each with its own --output_folder"
            )
        sources[target] = file
    return {file: target for target, file in sources.items()}
