"""Measure the labels of a run: one table, one JSON file, five pictures."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from speechbrain_birq.checkpoints import files
from speechbrain_birq.checkpoints.recovery import describe, save_order
from speechbrain_birq.data.corpora.forms import utterances
from speechbrain_birq.data.corpora.librispeech import find_utterances
from speechbrain_birq.data.manifest import Utterance, write_manifest
from speechbrain_birq.diagnostics.label_sets import LabelSets
from speechbrain_birq.diagnostics.pictures import draw_all
from speechbrain_birq.diagnostics.spoken import frames_of, make_spoken
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference.pretrained import load_labeller, pretraining_settings
from speechbrain_birq.inference.relabel import label_loader
from speechbrain_birq.metrics.codebook import (
    agreement,
    code_usage,
    mutual_information,
)
from speechbrain_birq.metrics.units import unit_quality

LOADER = dict(batch_seconds=100, num_workers=0)


class Diagnosis(NamedTuple):
    """Figures of each label set of a run, all on the same frames."""

    unit: str  # phone, character or subword
    frames: int
    utterances: int
    rows: dict[str, dict[str, Any]]  # label set -> measure -> value
    pairs: list[dict[str, Any]]  # agreement, mutual information of two label sets
    alignment_cer: float | None = None  # percent, of the run that aligned the texts


def diagnose_run(
    run: str | Path,
    data_folder: str | Path,
    split: str,
    alignment: str | Path | None = None,
    output_folder: str | Path | None = None,
    trust: Iterable[str] = (),
) -> Diagnosis:
    """Measure the labels of a pretraining on a split; write and draw the results.

    Channel statistics and k-means are fitted on every second utterance, everything is
    measured on the others.

    Arguments
    ---------
    run : str or Path
        Run folder of a pretraining, BiRQ or BEST-RQ.
    data_folder : str or Path
        Folder of the splits.
    split : str
        In any form that a training reads.
    alignment : str or Path, optional
        Run folder of a fine-tuning, whose tokens are aligned with the audio if there
        are no exact phones.
    output_folder : str or Path, optional
        Folder of the results; by default ``diagnosis`` in the run folder.
    trust : iterable
        As for ``SpeechEncoder``.

    Raises
    ------
    BadInput
        If the run, the corpus or the alignment cannot be used.
    """
    run = Path(run)
    folder = Path(output_folder or run / "diagnosis")
    trust = tuple(trust)
    sets = _label_sets(run, trust)
    found = utterances(data_folder, split, find_utterances)
    spoken = make_spoken(data_folder, split, alignment, trust)
    fit, measured = _halves(sets.model, found, folder)
    named = ((u.ID, spoken(u)) for u in tqdm(measured.utterances, spoken.unit))
    times = {name: intervals for name, intervals in named if intervals}
    if not times:
        raise BadInput(
            f"no utterance of {split} in {data_folder} has a known {spoken.unit}: give "
            f"a split with transcripts"
        )
    sets.fit(label_loader(sets.model, fit.path, shuffle=True, **LOADER))
    loader = label_loader(sets.model, measured.path, shuffle=False, **LOADER)
    now, before = sets.label(loader)
    names = [name for name in now.get("anchor", ()) if name in times]
    if not names:
        raise BadInput(
            f"no recording of the measured half of {split} can be read and has a known "
            f"{spoken.unit}: repair them"
        )
    now, before = _in_order(now, names), _in_order(before, names)
    lengths = [len(codes) for codes in now["anchor"]]
    truth = frames_of(times, names, lengths, sets.model.frontend)
    diagnosis = _measure(spoken.unit, sets.model.heads.shape[1], now, before, truth)
    diagnosis = diagnosis._replace(alignment_cer=spoken.cer)
    _write(diagnosis, folder)
    audio = {u.ID: u.wav for u in measured.utterances}[names[0]]
    draw_all(run, folder, diagnosis, sets.model, now, truth, audio)
    return diagnosis


def _in_order(found, names):
    """name of the label set -> list of the utterances' codes"""
    return {key: [codes[name] for name in names] for key, codes in found.items()}


def _measure(unit, num_codes, now, before, truth):
    rows = {key: _row(now, key, truth, num_codes, before) for key in now}
    frames = sum(map(len, now["anchor"]))
    return Diagnosis(unit, frames, len(now["anchor"]), rows, _pairs(now))


def _write(diagnosis, folder):
    text = json.dumps(diagnosis._asdict(), indent=2, ensure_ascii=False)
    files.write(folder / "diagnosis.json", text + "\n")


class Half(NamedTuple):
    """Every second utterance of a split."""

    path: Path  # manifest
    utterances: list[Utterance]


def _halves(model, utterances, folder):
    frontend = model.frontend
    shortest = frontend.hop_samples * frontend.stack / frontend.sample_rate
    long = [u for u in utterances if u.duration > shortest]
    if len(long) < 2:
        raise BadInput(
            "half of the utterances are fitted to, the others measured: give a split "
            "with at least two"
        )
    parts = {"fit": long[::2], "measured": long[1::2]}
    try:
        return [
            Half(write_manifest(folder / f"{name}.csv", part), part)
            for name, part in parts.items()
        ]
    except OSError as error:
        raise BadInput(
            f"cannot write {folder} ({error.strerror}): give another --output_folder"
        ) from error


def _label_sets(run, trust):
    settings = pretraining_settings(run)
    layer = settings["label_layer"]
    checkpoints = _checkpoints(run)
    model = load_labeller(run, layer, trust)
    trained = bool(settings.get("enhanced_weight_value", 1))
    before = None
    if trained and len(checkpoints) > 1:
        before = load_labeller(run, layer, trust, checkpoints[-2])
    return LabelSets(model, trained=trained, before=before)


def _checkpoints(run):
    """Return the folders of a run's checkpoints, the oldest first."""
    found = describe(sorted(run.glob("save/CKPT+*")))
    return [checkpoint.path for checkpoint in sorted(found, key=save_order)]


def _row(sets, key, truth, num_codes, before):
    """Measure one label set."""
    codes, (numbers, names) = torch.cat(sets[key]), truth
    sizes = dict(num_codes=num_codes, num_phones=len(names), silence=0)
    shuffled = _shuffled(numbers)
    return {
        **code_usage(codes, num_codes)._asdict(),
        **unit_quality(sets[key], numbers, **sizes)._asdict(),
        "chance": unit_quality(sets[key], shuffled, **sizes).pnmi,
        "churn": _churn(before[key], sets[key]) if key in before else None,
        **_against_anchor(torch.cat(sets["anchor"]), codes, key),
    }


def _against_anchor(anchor, codes, key):
    """Compare a label set with the anchor's if it has as many codebooks."""
    names = ("agreement", "mutual_information", "mutual_information_chance")
    if key == "anchor" or anchor.shape != codes.shape:
        return dict.fromkeys(names)
    found = agreement(anchor, codes), mutual_information(anchor, codes)
    (shuffled,) = _shuffled([codes])
    chance = mutual_information(anchor, shuffled)
    return dict(zip(names, (*found, chance), strict=True))


def _churn(before, now):
    return 1 - agreement(torch.cat(before), torch.cat(now))


def _shuffled(numbers):
    flat = torch.cat(numbers)
    order = torch.randperm(len(flat), generator=torch.Generator().manual_seed(0))
    return flat[order].split([len(part) for part in numbers])


def _pairs(sets):
    """Compare every two label sets with equally many codebooks."""
    joined = {name: torch.cat(codes) for name, codes in sets.items()}
    names = list(joined)
    return [
        {
            "first": a,
            "second": b,
            "agreement": agreement(joined[a], joined[b]),
            "mutual_information": mutual_information(joined[a], joined[b]),
        }
        for place, a in enumerate(names)
        for b in names[place + 1 :]
        if joined[a].shape == joined[b].shape
    ]
