"""Shards as a SpeechBrain dataset."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.data_pipeline import DataPipeline

from speechbrain_birq.data.manifest import report_left_out
from speechbrain_birq.data.pipeline import AudioReader, Item, with_items
from speechbrain_birq.data.shards.batches import ShardBatches, UsedUtterances
from speechbrain_birq.data.shards.index import Label
from speechbrain_birq.data.shards.reader import Shards


class ShardDataset(DynamicItemDataset):
    """Utterances of shards with ``id``, ``sig``, ``speaker``, ``text``, further items.

    Unlike its parent it holds no row for each utterance, so that the memory does not
    grow with the corpus. Arguments and errors are those of ``make_dataset``.
    """

    def __init__(
        self,
        shards: Shards,
        *,
        reader: AudioReader,
        min_seconds: float,
        max_seconds: float,
        needs_text: bool = False,
    ):
        low, high = (limit * shards.sample_rate for limit in (min_seconds, max_seconds))
        keep = (shards.samples >= low) & (shards.samples <= high)
        if needs_text:
            keep &= shards.has_text()
        self.selection = UsedUtterances(keep, shards.first)
        report_left_out(
            shards,
            len(self),
            len(shards),
            min_seconds=min_seconds,
            max_seconds=max_seconds,
            needs_text=needs_text,
        )
        self.shards, self.reader = shards, reader
        self.pipeline = DataPipeline(["number", "name", "audio"])
        self.add_dynamic_item(shards.label, takes="number", provides="label")
        if needs_text:
            heard = ["name", "audio", "label"]
            self.add_dynamic_item(self._with_text, takes=heard, provides="sig")
        else:
            self.add_dynamic_item(reader, takes=["name", "audio"], provides="sig")
        for field, get in (("id", _id), ("speaker", _speaker), ("text", _text)):
            self.add_dynamic_item(get, takes="label", provides=field)

    def __len__(self):
        return len(self.selection)

    def __getitem__(self, position: int) -> dict[str, Any]:
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> list[dict[str, Any]]:
        """Read a batch: over a network its utterances are fetched at the same time."""
        numbers = [self.selection.number(position) for position in positions]
        known = {number: self.shards.name(number) for number in numbers}
        missing = [n for n, name in known.items() if name not in self.reader.cache]
        audio: dict[int, tuple[str, Any]] = {n: (known[n], None) for n in numbers}
        audio |= zip(missing, self.shards.audio(missing), strict=True)
        return [self._example(number, *audio[number]) for number in numbers]

    def _example(self, number, name, audio):
        static = {"number": number, "name": name, "audio": audio}
        return self.pipeline.compute_outputs(static)

    def _with_text(self, name, audio, label):
        """Nothing of an utterance whose text cleaning has emptied, or cannot be read.

        The loader leaves it out: blanks only would be learned from it.
        """
        return self.reader(name, audio) if label.text else torch.zeros(0)

    def batches(
        self,
        *,
        batch_seconds: float,
        shuffle: bool,
        seed: int,
        ranks: tuple[int, int],
    ) -> ShardBatches:
        """Make the sampler of this dataset's batches for one rank."""
        return ShardBatches(
            samples=self.shards.samples,
            selection=self.selection,
            max_samples=batch_seconds * self.shards.sample_rate,
            shuffle=shuffle,
            seed=seed,
            ranks=ranks,
        )


def _id(label: Label) -> str:
    return label.id


def _speaker(label: Label) -> str:
    return label.speaker


def _text(label: Label) -> str:
    return label.text


def make_shard_dataset(
    shards: Shards, *, items: Iterable[Item] = (), **options: Any
) -> ShardDataset:
    """Make a dataset of shards; arguments and errors are those of ``make_dataset``."""
    return with_items(ShardDataset(shards, **options), items)
