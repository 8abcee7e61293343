"""The last lines of a training: what it has made, where, and what to do next."""

import csv
import logging
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from speechbrain.utils.distributed import if_main_process

from speechbrain_birq.brains.progress import duration
from speechbrain_birq.brains.report_line import figure_texts
from speechbrain_birq.brains.run_log import read_results
from speechbrain_birq.errors import LIBRARIES
from speechbrain_birq.metrics.significance import file_name

logger = logging.getLogger(__name__)

SCORED_OTHERWISE = ".scored_otherwise"  # a mark in the run folder

SIZES = ("tiny", "base", "wide", "large")


def log_closing(folder: str | Path, command: str, *, trained: bool) -> None:
    """Log what a run has reached, and the command that uses it.

    Arguments
    ---------
    folder : str or Path
        The run folder; its ``results.json`` holds the figures.
    command : str
        What to do next.
    trained : bool
        Whether this start has made steps; if not, the run was finished before.
    """
    if not if_main_process():
        return
    results = read_results(folder)
    verb = "finished" if trained else "finished already, nothing is left to train"
    logger.info(
        "%s: %s: %s steps in %s",
        folder,
        verb,
        f"{results.get('steps', 0):,}",  # --test_only needs no results.json
        duration(results.get("seconds", 0)),
    )
    if not trained:  # otherwise they stand just above
        _log_figures(results)
    logger.info("next: %s", command)


def _log_figures(results):
    for name, figures in results.items():
        if name == "valid" or (isinstance(figures, dict) and "wer_low" in figures):
            shown = "validation" if name == "valid" else name
            logger.info("%s: %s", shown, "  ".join(figure_texts(figures)))


def known_scores(folder: Path, settings: str) -> dict[str, Any]:
    """Return the scores that a run already has under the same settings.

    Arguments
    ---------
    folder : Path
        The run folder.
    settings : str
        What ``hyperparams.yaml`` will hold; other settings may decode otherwise.
    """
    if not _are_own(folder, settings) or (folder / SCORED_OTHERWISE).exists():
        return {}
    return {
        split: score
        for split, score in read_results(folder).items()
        if (folder / f"wer_{file_name(split)}.txt").is_file()
    }


def mark_other_settings(folder: Path, settings: str) -> None:
    """Mark a run whose scores will come from settings that are not its own.

    Arguments are those of ``known_scores``; ``unmark`` takes the mark away.
    """
    if if_main_process() and not _are_own(folder, settings):
        (folder / SCORED_OTHERWISE).touch()


def unmark(folder: Path) -> None:
    """Take away the mark: every score comes from the run's own settings again."""
    if if_main_process():
        (folder / SCORED_OTHERWISE).unlink(missing_ok=True)


def _are_own(folder, settings):
    own = folder / "hyperparams.yaml"
    return own.is_file() and own.read_text(encoding="utf-8") == settings


def finetune_command(
    yaml: str | Path,
    run: str | Path,
    *,
    data_folder: str | Path | None,
    train_split: str,
    trust: Sequence[str] = (),
) -> str:
    """Return the command that fine-tunes a pretrained run.

    Arguments
    ---------
    yaml : str or Path
        YAML file of the pretraining: its name says how large the model is.
    run : str or Path
        Run folder of the pretraining.
    data_folder : str or Path, optional
        Folder of the splits.
    train_split : str
        Training split of the pretraining; without a data folder it is a path.
    trust : sequence of str
        Packages of the user's own whose classes the run has.

    Example
    -------
    >>> splits = dict(data_folder="/data/my corpus", train_split="pretrain")
    >>> finetune_command("hparams/birq_large_yodas.yaml", "r/birq", **splits)
    "birq finetune ctc_large --data_folder '/data/my corpus' --pretrained r/birq"
    >>> splits = dict(data_folder=None, train_split="corpus.csv")
    >>> finetune_command("birq_tiny", "r/birq", **splits)
    'birq finetune ctc_tiny --train_split corpus.csv --pretrained r/birq'
    """
    words = re.split(r"[^a-z]+", Path(yaml).stem.lower())
    size = next((size for size in SIZES if size in words), "base")
    data = ["--data_folder", str(data_folder)]
    if data_folder is None:
        data = ["--train_split", train_split]
    words = ["birq", "finetune", f"ctc_{size}", *data, "--pretrained", str(run)]
    if trust:
        words += ["--trust", trust[0] if len(trust) == 1 else f"[{', '.join(trust)}]"]
    return shlex.join(words)


def own_packages(*modules: torch.nn.Module) -> list[str]:
    """List the packages of the user's own that classes of modules come from.

    Example
    -------
    >>> own_packages(torch.nn.Sequential(torch.nn.ReLU()))
    []
    """
    names = {type(part).__module__ for module in modules for part in module.modules()}
    packages = {name.partition(".")[0] for name in names}
    return sorted(packages - LIBRARIES - {"__main__"})


def transcribe_command(
    run: str | Path, manifests: Sequence[Any], trust: Sequence[str] = ()
) -> str:
    """Return a command that uses a fine-tuned run and can be given as it stands.

    It transcribes a recording of the run's own splits. Shards hold no audio files, so a
    run that knows only shards is exported.

    Arguments
    ---------
    run : str or Path
        Run folder of the fine-tuning.
    manifests : sequence
        Manifests of its splits, those of test first.
    trust : sequence of str
        As for ``finetune_command``.

    Example
    -------
    >>> transcribe_command("results/ctc", [])
    'birq export results/ctc results/ctc_exported'
    """
    listed = (path for path in manifests if isinstance(path, Path))
    audio = next(filter(None, map(_first_recording, listed)), None)
    words = ["birq", "export", str(run), f"{run}_exported"]
    if audio is not None:
        words = ["birq", "transcribe", str(run), audio]
    options = (word for package in trust for word in ("--trust", package))
    return shlex.join([*words, *options])


def _first_recording(manifest: Path) -> str | None:
    with open(manifest, newline="", encoding="utf-8") as file:
        return next(csv.DictReader(file), {}).get("wav")
