"""The YAML files that come with the package, by their names."""

import difflib
from pathlib import Path

from speechbrain_birq.errors import BadInput

PACKAGE = Path(__file__).resolve().parents[1]


def carried_folder(name: str) -> Path:
    """Return a folder that comes with the package: ``hparams`` or ``weights``.

    Example
    -------
    >>> (carried_folder("hparams") / "birq_tiny.yaml").is_file()
    True
    """
    # A wheel has the folder in the package, a checkout has it beside the package.
    installed = PACKAGE / name
    return installed if installed.is_dir() else PACKAGE.parent / name


def find_file(name: str | Path) -> Path:
    """Return the path of a YAML file that a command line names.

    Arguments
    ---------
    name : str or Path
        A path, or the name of a file that comes with the package, without ``.yaml``.

    Raises
    ------
    BadInput
        If there is no such file; the message has the nearest name.

    Example
    -------
    >>> find_file("birq_tiny").name
    'birq_tiny.yaml'
    >>> find_file("hparams/birq_tinny.yaml")
    Traceback (most recent call last):
    speechbrain_birq.errors.BadInput: no YAML file hparams/birq_tinny.yaml: did you \
mean birq_tiny, which comes with the package?
    """
    shipped = {path.stem: path for path in carried_folder("hparams").glob("*.yaml")}
    if Path(name).is_file():
        return Path(name)
    if str(name) in shipped:
        return shipped[str(name)]
    stem = Path(name).name.removesuffix(".yaml")
    nearest = difflib.get_close_matches(stem, sorted(shipped), n=1)
    if nearest:
        hint = f"did you mean {nearest[0]}, which comes with the package?"
    else:
        hint = f"give a path, or one of {', '.join(sorted(shipped))}"
    raise BadInput(f"no YAML file {name}: {hint}")
