"""What a training reads: the splits that it names, batches of them, a sample."""

import torch
import torch.distributed as dist
from speechbrain.utils.distributed import run_on_main

from speechbrain_birq.data.loaders import make_loader
from speechbrain_birq.data.manifest import read_manifest
from speechbrain_birq.data.pipeline import AudioReader, make_dataset
from speechbrain_birq.data.shards.dataset import make_shard_dataset
from speechbrain_birq.data.shards.reader import Shards, find_shards
from speechbrain_birq.errors import BadInput


def prepare_splits(prepare, experiment, keys) -> dict:
    """Find shards, and write manifests of what is none.

    Arguments
    ---------
    prepare : callable
        (data_folder, splits, manifest_folder), of a corpus.
    experiment : Experiment
    keys : list
        Of the YAML, that name splits.

    Returns
    -------
    dict
        split -> ``Shards`` or the path of its manifest
    """
    splits = []
    for key in keys:
        value = experiment.hparams[key]
        splits += [value] if isinstance(value, str) else value
    data_folder = experiment.hparams["data_folder"]
    found = {split: find_shards(data_folder, split) for split in splits}
    listed = [split for split, shards in found.items() if shards is None]
    folder = experiment.folder / "manifests"
    if listed:
        run_on_main(
            prepare,
            kwargs={
                "data_folder": data_folder,
                "splits": listed,
                "manifest_folder": folder,
            },
        )
    return found | {split: folder / f"{split}.csv" for split in listed}


def stage_loader(hparams, frontend, manifest, stage, items):
    """Batches of a split.

    Arguments
    ---------
    hparams : dict
    frontend : FrontEnd
        Of the model, whose sampling rate and frames the audio must fit.
    manifest : Path or Shards
    stage : str
        ``train`` (shuffled), ``valid`` or ``test``.
    items : list
        As for ``make_dataset``.

    Returns
    -------
    SaveableDataLoader
    """
    one_frame = frontend.frame_ms / 1000
    make = make_shard_dataset if isinstance(manifest, Shards) else make_dataset
    dataset = make(
        manifest,
        reader=AudioReader(frontend.sample_rate, hparams["cache_audio_gb"]),
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
        # One stacked frame needs at least so many samples.
        min_samples=frontend.hop_samples * frontend.stack,
        num_workers=hparams["num_workers"],
        ranks=ranks,
    )


def refuse_long(limit, split, manifest) -> None:
    """Error rates are of a whole split: told before the training, not after it."""
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


def sample(dataset, seed):
    """Waveforms of a dataset in an order that the seed alone decides."""
    order = torch.Generator().manual_seed(seed)
    for number in torch.randperm(len(dataset), generator=order):
        with dataset.output_keys_as(["sig"]):
            signal = dataset[int(number)]["sig"]
        yield signal


def transcripts(manifest, split) -> list[str]:
    """All that are not empty.

    Raises
    ------
    BadInput
        If there is none.
    """
    if isinstance(manifest, Shards):
        texts = list(manifest.texts())
    else:
        texts = [row.text for row in read_manifest(manifest) if row.text]
    if not texts:
        raise BadInput(
            f"no transcripts in the split {split!r}: fine-tuning needs "
            f"<speaker>-<chapter>.trans.txt files"
        )
    return texts
