"""Relabel a corpus once with layer k of a pretrained run."""

import argparse
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from speechbrain.dataio.dataloader import SaveableDataLoader
from tqdm import tqdm

from speechbrain_birq.checkpoints.run_lock import locked
from speechbrain_birq.data.loaders import make_loader
from speechbrain_birq.data.pipeline import AudioReader, make_dataset
from speechbrain_birq.data.shards.dataset import ShardDataset
from speechbrain_birq.data.split_places import manifest_path
from speechbrain_birq.data.stored_labels import (
    StoredLabels,
    refuse_other,
    write_labels,
)
from speechbrain_birq.errors import BadInput, one_sentence
from speechbrain_birq.inference.device import moved
from speechbrain_birq.inference.pretrained import load_labeller, pretraining_settings
from speechbrain_birq.models.birq import BiRQ

STATISTICS_BATCHES = 100  # enough for the running means of the channels


@one_sentence
def relabel(argv: Sequence[str] | None = None) -> None:
    """Run the command of ``recipes/LibriSpeech/relabel.py``."""
    parser = argparse.ArgumentParser(description="Label a corpus with layer k's codes.")
    parser.add_argument("run", help="run folder of a pretraining")
    parser.add_argument("--layer", type=int, required=True, help="k, 1 to K")
    parser.add_argument("--output_folder", required=True, help="folder of the labels")
    parser.add_argument("--batch_seconds", type=float, default=200)
    parser.add_argument("--num_workers", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="such as cuda:0")
    parser.add_argument("--trust", action="append", default=[], metavar="PACKAGE")
    arguments = parser.parse_args(argv)
    relabel_run(**vars(arguments))
    run = Path(arguments.run)
    again = [f"{run}/hyperparams.yaml", "--stored_labels", arguments.output_folder]
    again += ["--output_folder", f"{run}_relabeled"]
    print("next:", shlex.join(["birq", "pretrain", *again]))


def relabel_run(
    run: str | Path,
    layer: int,
    output_folder: str | Path,
    *,
    batch_seconds: float = 200,
    num_workers: int = 0,
    device: str = "cpu",
    trust: Iterable[str] = (),
) -> None:
    """Store the codes of layer k for the splits that a run was trained on.

    Arguments
    ---------
    run : str or Path
        Run folder of a pretraining; its manifests say where the audio lies.
    layer : int
        k. Its normalized output is quantized by the run's own random projection of
        the encoder and its codebook.
    output_folder : str or Path
        Folder of the labels: ``stored_labels`` of the next pretraining.
    batch_seconds : float
        Seconds of audio that are encoded at once.
    num_workers : int
        Number of processes that read audio.
    device : str
    trust : iterable
        Further packages whose classes the run may build.

    Raises
    ------
    BadInput
        If the run or the folder cannot be used, or another process writes into it.
    """
    run = Path(run)
    settings = pretraining_settings(run)
    if not batch_seconds > 0:
        raise BadInput(f"--batch_seconds {batch_seconds:g}: give seconds above 0")
    manifests = {
        split: _manifest(run, split)
        for split in (settings["train_split"], settings["valid_split"])
    }
    model = load_labeller(run, layer, trust)
    _refuse_unfitted(model, run)
    model = moved(model, device)
    shape = label_shape(model) | {"layer": layer, "run": str(run.resolve())}
    options = dict(batch_seconds=batch_seconds, num_workers=num_workers)
    settled = layer == settings["label_layer"] and model.label_norm.num_batches
    with locked(output_folder):
        for split in manifests:
            refuse_other(output_folder, split, shape)
        if not settled:
            shuffled = label_loader(model, _first(manifests), shuffle=True, **options)
            _settle(model, shuffled, device)
        for split, manifest in manifests.items():
            loader = label_loader(model, manifest, shuffle=False, **options)
            codes = _codes(model, loader, device)
            frames = write_labels(output_folder, split, codes, shape)
            print(f"{Path(output_folder) / split}: {frames} frames of layer {layer}")


def _refuse_unfitted(model, run):
    quantizer = model.enhanced_quantizer
    if quantizer.fittable and not quantizer.times_fitted:
        raise BadInput(
            f"the enhanced quantizer of {run} was never fitted, because the run has "
            f"enhanced_weight_value 0: relabel a run with random codes for layer k "
            f"(such as best_rq_plus_tiny), or with enhanced labels"
        )


def label_shape(model: BiRQ) -> dict[str, Any]:
    """Return what a training must have in common with the codes that it uses."""
    num_codebooks, num_codes = model.heads.shape
    frontend = model.frontend
    return {
        "sample_rate": frontend.sample_rate,
        "hop_samples": frontend.hop_samples,
        "stack": frontend.stack,
        "num_codebooks": num_codebooks,
        "num_codes": num_codes,
    }


def add_stored_labels(hparams: Mapping[str, Any], **datasets: Any) -> None:
    """Let the datasets of a pretraining provide stored codes as ``targets``.

    Arguments
    ---------
    hparams : mapping
        ``stored_labels``, ``model`` and ``<stage>_split`` of the pretraining.
    **datasets : DynamicItemDataset or ShardDataset
        The datasets of the stages ``train`` and ``valid``.

    Raises
    ------
    BadInput
        If the codes belong to other utterances, frames or codebooks.
    """
    stored = StoredLabels(hparams["stored_labels"])
    stored.fits(label_shape(hparams["model"]))
    for stage, dataset in datasets.items():
        split = hparams[f"{stage}_split"]
        if isinstance(dataset, ShardDataset):
            raise BadInput(
                f"stored_labels are for corpora that are read file by file, and "
                f"{split!r} lies in shards: set stored_labels to null"
            )
        item = stored.split(split, dataset.data_ids)
        dataset.add_dynamic_item(item, takes=["id", "mask"], provides="targets")
        keys = list(dataset.pipeline.output_mapping)
        dataset.set_output_keys([*keys, "targets"])


def _manifest(run, split):
    path = manifest_path(run / "manifests", split)
    if not path.is_file():
        raise BadInput(
            f"no manifest {path}: labels are stored for corpora that are read file by "
            f"file, not for shards"
        )
    return path


def _first(manifests):
    return next(iter(manifests.values()))


def label_loader(
    model: BiRQ, manifest: str | Path, **options: Any
) -> SaveableDataLoader:
    """Make batches of every utterance of a manifest that is long enough to label."""
    frontend = model.frontend
    dataset = make_dataset(
        manifest,
        reader=AudioReader(frontend.sample_rate),
        min_seconds=0.0,
        max_seconds=float("inf"),
    )
    return make_loader(
        dataset,
        seed=0,
        min_samples=frontend.hop_samples * frontend.stack,
        **options,
    )


def _settle(model, loader, device):
    """Estimate the channel statistics of layer k, which no label pass has done."""
    norm = model.label_norm
    if not norm.estimated:
        return
    norm.num_batches.zero_()
    norm.train()
    for number, batch in enumerate(tqdm(loader, "statistics")):
        if number == STATISTICS_BATCHES:
            break
        if batch is not None:
            model.labels(*batch.to(device).sig)
    norm.eval()


def _codes(model, loader, device):
    """Yield (utterance, (T, G) int64); T = 0 if the audio cannot be read."""
    unread = dict.fromkeys(loader.dataset.data_ids)
    codes = torch.zeros(1, 0, model.heads.shape[0], dtype=torch.long)
    for batch in tqdm(loader, "labeled"):
        if batch is None:
            continue
        labels = model.labels(*batch.to(device).sig)
        codes, lengths = labels.enhanced.cpu(), labels.lengths.tolist()
        for utterance, length, row in zip(batch.id, lengths, codes, strict=True):
            del unread[utterance]
            yield utterance, row[:length]
    for utterance in unread:
        yield utterance, codes[0, :0]
