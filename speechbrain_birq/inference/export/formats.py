"""The formats that a run can be exported to, and the export."""

from collections.abc import Callable, Iterable
from pathlib import Path

from speechbrain_birq.checkpoints import files
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference.export.card import model_card
from speechbrain_birq.inference.export.finished_run import FinishedRun
from speechbrain_birq.inference.export.s3prl_files import write_s3prl
from speechbrain_birq.inference.export.speechbrain_files import write_speechbrain
from speechbrain_birq.inference.export.transformers_files import write_transformers

FORMATS: dict[str, Callable[[FinishedRun, Path], None]] = {
    "speechbrain": write_speechbrain,
    "transformers": write_transformers,
    "s3prl": write_s3prl,
}


def export_run(
    run_folder: str | Path,
    folder: str | Path,
    trust: Iterable[str] = (),
    formats: Iterable[str] = tuple(FORMATS),
    license: str | None = None,
) -> list[str]:
    """Write a run's encoder, and its recogniser if it is fine-tuned, with a model card.

    Arguments
    ---------
    run_folder : str or Path
    folder : str or Path
        A new or empty folder.
    trust : iterable
        Further packages whose classes the run folder may build.
    formats : iterable
        Keys of ``FORMATS``; all by default.
    license : str, optional
        License of the weights, for the model card: ``apache-2.0``.

    Returns
    -------
    list of str
        Names of the files.

    Raises
    ------
    BadInput
        If the run folder cannot be loaded, a format is not known, or the other folder
        is not empty or cannot be written.
    """
    formats = list(formats)
    if unknown := [name for name in formats if name not in FORMATS]:
        raise BadInput(f"no format {unknown[0]!r}: give one of {', '.join(FORMATS)}")
    run = FinishedRun.read(run_folder, trust)
    card = model_card(run, formats, license)
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise BadInput(f"{folder} is not empty: give a new folder to export into")
        for name in formats:
            FORMATS[name](run, folder)
        files.write(folder / "README.md", card)
    except OSError as error:
        raise BadInput(
            f"cannot write {folder} ({error.strerror}): give another one"
        ) from error
    return sorted(path.name for path in folder.iterdir())
