"""What a training reads: the splits that it names, batches of them, a sample."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
import torch.distributed as dist
from speechbrain.utils.distributed import if_main_process, run_on_main

from speechbrain_birq.data.corpora.librispeech import prepare_librispeech
from speechbrain_birq.data.held_out import hold_out
from speechbrain_birq.data.loaders import make_loader
from speechbrain_birq.data.manifest import read_manifest, write_manifest
from speechbrain_birq.data.pipeline import AudioReader, Item, make_dataset
from speechbrain_birq.data.same_data import check_same_data
from speechbrain_birq.data.shards.dataset import make_shard_dataset
from speechbrain_birq.data.shards.reader import Shards, find_shards
from speechbrain_birq.data.split_places import (
    held_out_share,
    is_elsewhere,
    manifest_path,
)
from speechbrain_birq.data.texts import TextCleaning
from speechbrain_birq.errors import BadInput


class _Experiment(Protocol):
    @property
    def hparams(self) -> dict[str, Any]: ...
    @property
    def folder(self) -> Path: ...


class _FrontEnd(Protocol):
    frame_ms: float
    sample_rate: int
    hop_samples: int
    stack: int


def prepare_splits(
    prepare: Callable[..., Any], experiment: _Experiment, keys: Sequence[str]
) -> dict[str, Shards | Path]:
    """Find shards, and write manifests of the splits that are folders or tables.

    Texts are cleaned as ``text_case`` and ``drop_characters`` say.

    Arguments
    ---------
    prepare : callable
        (data_folder, splits, manifest_folder) -> manifests, for a corpus.
    experiment : Experiment
        Has ``hparams`` and ``folder``.
    keys : sequence of str
        Keys of the YAML that name splits.

    Returns
    -------
    dict
        split -> ``Shards`` or the path of its manifest
    """
    hparams = experiment.hparams
    splits: list[str] = []
    for key in keys:
        value = hparams[key]
        splits += [value] if isinstance(value, str) else value
    data_folder = hparams["data_folder"]
    named = [split for split in splits if held_out_share(split) is None]
    found = {split: find_shards(data_folder, split) for split in named}
    sharded = {split: shards for split, shards in found.items() if shards is not None}
    listed = [split for split in found if split not in sharded]
    cleaning = TextCleaning.of(hparams)
    held_out = list(dict.fromkeys(s for s in splits if s not in named))
    train = hparams["train_split"]
    if held_out and train not in listed:
        raise BadInput(
            f"{held_out[0]!r} can only be held out of a training split of audio files, "
            f"and {train!r} is none: give --valid_split"
        )
    check_same_data(data_folder, listed, sharded)
    folder = experiment.folder / "manifests"
    manifests = {split: manifest_path(folder, split) for split in (*listed, *held_out)}
    run_on_main(
        _write_manifests,
        args=[prepare, data_folder, folder, manifests, listed, cleaning],
    )
    for split in held_out:
        run_on_main(hold_out, args=[manifests[train], manifests[split], split])
    for split, shards in sharded.items():
        shards.cleaning = cleaning
        if cleaning.active and if_main_process():
            cleaning.report(split, shards.texts(clean=False))
    return sharded | manifests


def _write_manifests(prepare, data_folder, folder, manifests, listed, cleaning):
    paths = [split for split in listed if data_folder is None or is_elsewhere(split)]
    others = [split for split in listed if split not in paths]
    for splits, write in ((paths, prepare_librispeech), (others, prepare)):
        if splits:
            write(data_folder=data_folder, splits=splits, manifest_folder=folder)
    for split in listed if cleaning.active else ():
        rows = read_manifest(manifests[split])
        cleaning.report(split, [row.text for row in rows if row.text])
        clean = (row._replace(text=cleaning(row.text)) for row in rows)
        write_manifest(manifests[split], clean)


def stage_loader(
    hparams: Mapping[str, Any],
    frontend: _FrontEnd,
    manifest: Shards | str | Path,
    stage: str,
    items: Sequence[Item],
) -> Any:
    """Make the loader of a split.

    Arguments
    ---------
    hparams : mapping
        Keys of the YAML.
    frontend : FrontEnd
        The model's: it decides sampling rate and shortest utterance.
    manifest : Shards or Path
        Where the split's utterances are.
    stage : str
        ``train`` (shuffled), ``valid`` or ``test``.
    items : sequence
        As for ``make_dataset``.
    """
    one_frame = frontend.frame_ms / 1000
    # Workers begin anew in every epoch, and with nothing in memory.
    cache_gb = 0 if hparams["num_workers"] else hparams["cache_audio_gb"]
    make: Callable[..., Any] = make_dataset
    if isinstance(manifest, Shards):
        make = make_shard_dataset
    dataset = make(
        manifest,
        reader=AudioReader(frontend.sample_rate, cache_gb=cache_gb),
        min_seconds=hparams["min_seconds"] if stage == "train" else one_frame,
        max_seconds=hparams["max_seconds" if stage == "train" else "max_eval_seconds"],
        needs_text=any(takes == "text" for _, takes, _ in items),
        items=items,
    )
    ranks = (0, 1)
    if dist.is_initialized():
        ranks = (dist.get_rank(), dist.get_world_size())
    return make_loader(
        dataset,
        batch_seconds=hparams["batch_seconds"],
        shuffle=stage == "train",
        seed=hparams["seed"],
        # Shorter waveforms do not give one stacked frame.
        min_samples=frontend.hop_samples * frontend.stack,
        num_workers=hparams["num_workers"],
        ranks=ranks,
    )


def refuse_long(limit: float, split: str, manifest: Shards | str | Path) -> None:
    """Refuse a test split with a recording longer than ``limit`` seconds.

    Error rates are of complete splits; this is said before the training, not after it.

    Raises
    ------
    BadInput
        The message names the recording.
    """
    if isinstance(manifest, Shards):
        seconds = manifest.samples.max() / manifest.sample_rate
        name = manifest.name(int(manifest.samples.argmax()))
    else:
        longest = max(read_manifest(manifest), key=lambda row: row.duration)
        name, seconds = longest.ID, longest.duration
    if seconds > limit:
        raise BadInput(
            f"{name} of the test split {split!r} is {seconds:.0f} s long, "
            f"max_eval_seconds is {limit:g}: cut it into utterances, or raise "
            f"max_eval_seconds (attention's memory grows with the square)"
        )


def sample(dataset: Any, seed: int) -> Iterator[torch.Tensor]:
    """Yield waveforms of a dataset, (S,), in an order that only the seed decides."""
    order = torch.Generator().manual_seed(seed)
    for number in torch.randperm(len(dataset), generator=order):
        with dataset.output_keys_as(["sig"]):
            signal = dataset[int(number)]["sig"]
        yield signal


class Spoken(NamedTuple):
    """An utterance that has a transcript."""

    name: str
    num_samples: int  # as its header says, at the rate that was asked for
    text: str


def spoken(manifest: Shards | str | Path, sample_rate: int) -> Iterator[Spoken]:
    """Yield the utterances of a split that have a transcript."""
    if isinstance(manifest, Shards):
        factor = sample_rate / manifest.sample_rate
        for number in manifest.has_text().nonzero()[0].tolist():
            label = manifest.label(number)
            samples = round(int(manifest.samples[number]) * factor)
            yield Spoken(label.id, samples, label.text)
    else:
        for row in read_manifest(manifest):
            if row.text:
                yield Spoken(row.ID, round(row.duration * sample_rate), row.text)


def transcripts(manifest: Shards | str | Path, split: str) -> list[str]:
    """List all transcripts that are not empty.

    Raises
    ------
    BadInput
        If there is none; the message names the split.
    """
    if isinstance(manifest, Shards):
        texts = list(manifest.texts())
    else:
        texts = [row.text for row in read_manifest(manifest) if row.text]
    if not texts:
        raise BadInput(
            f"no transcripts in the split {split!r}: fine-tuning needs a column text "
            f"in a table, or <speaker>-<chapter>.trans.txt files"
        )
    return texts
