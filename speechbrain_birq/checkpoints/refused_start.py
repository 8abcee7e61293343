"""A start that is refused leaves no half-made run folder."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from speechbrain.utils.distributed import if_main_process

from speechbrain_birq.checkpoints.run_lock import NAME, locked_alone
from speechbrain_birq.errors import BadInput

# What a start writes before its first step. The first epoch adds hyperparams.yaml:
# from then on the folder is a run.
FILES = (NAME, "log.txt", "characters.json", "sentencepiece.*", "manifests/*.csv")
FOLDERS = ("manifests", "save")


@contextmanager
def removed_if_refused(folder: str | Path) -> Iterator[None]:
    """Remove a run folder that was made inside, if a ``BadInput`` is raised.

    A folder that was there before stays as it is, and so does one that another process
    uses, or that holds anything besides the files of a start.

    Arguments
    ---------
    folder : str or Path

    Example
    -------
    >>> folder = getfixture("tmp_path") / "results" / "run"
    >>> with removed_if_refused(folder):
    ...     folder.mkdir(parents=True)
    ...     _ = (folder / "log.txt").write_text("started")
    ...     raise BadInput("no split 'train'")
    Traceback (most recent call last):
    speechbrain_birq.errors.BadInput: no split 'train'
    >>> list(getfixture("tmp_path").iterdir())
    []
    """
    folder = Path(folder)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BadInput:
        if made and if_main_process():
            _remove(folder, made)
        raise


def _remove(folder, made):
    if not folder.is_dir():
        return
    with locked_alone(folder, folder / NAME) as used, suppress(OSError):
        files = {path for pattern in FILES for path in folder.glob(pattern)}
        folders = {folder / name for name in FOLDERS}
        if used or set(folder.rglob("*")) - files - folders:
            return
        for path in files:
            path.unlink()
        for path in (*folders, *made):  # the folder, then those above it
            if path.exists():
                path.rmdir()
