"""Classify the phones of single frames from each layer, with a linear classifier."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

from speechbrain_birq.checkpoints.plain_files import corruption_named
from speechbrain_birq.data.corpora.minispeech.espeak import SILENCE
from speechbrain_birq.data.files_below import files_below
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference import SpeechEncoder

RIDGE = 1e-3  # λ, relative to the mean square of the features


class Interval(NamedTuple):
    """A phone and its time."""

    start: float  # seconds
    end: float
    phone: str


class LayerAccuracy(NamedTuple):
    """Shares of frames whose phone is classified correctly, on unseen speakers."""

    frames: float  # from stacked log-mel frames
    layers: tuple[float, ...]  # from the input projection and each layer
    most_frequent: float  # by always naming the most frequent phone


class RidgeClassifier:
    """Least squares on one-hot targets; its memory does not grow with the frames.

    W = (XᵀX + λI)⁻¹ XᵀY in float64, where X has a column of ones; the class with the
    largest output wins.

    Arguments
    ---------
    num_features, num_classes : int

    Example
    -------
    >>> classifier = RidgeClassifier(num_features=1, num_classes=2)
    >>> x, y = torch.tensor([[-1.0], [-2.0], [1.0]]), torch.tensor([0, 0, 1])
    >>> classifier.add(x, y)
    >>> classifier.fit()
    >>> classifier.predict(torch.tensor([[-3.0], [2.0]])).tolist()
    [0, 1]
    """

    def __init__(self, *, num_features: int, num_classes: int) -> None:
        size = num_features + 1
        self.num_classes = num_classes
        self.products = torch.zeros(size, size, dtype=torch.float64)
        self.targets = torch.zeros(size, num_classes, dtype=torch.float64)

    def add(self, features: torch.Tensor, classes: torch.Tensor) -> None:
        """Add frames (M, D) with their classes (M,) int64."""
        x = _with_ones(features)
        self.products += x.T @ x
        self.targets += x.T @ torch.nn.functional.one_hot(classes, self.num_classes).to(
            x
        )

    def fit(self) -> None:
        """Solve for the weights W."""
        penalty = RIDGE * self.products.diagonal().mean()
        regular = self.products + penalty * torch.eye(len(self.products))
        self.weights = torch.linalg.solve(regular, self.targets)

    def predict(self, features: torch.Tensor) -> torch.Tensor:
        """Return the class of each frame: (M, D) -> (M,) int64."""
        return (_with_ones(features) @ self.weights).argmax(1)


def _with_ones(features):
    ones = features.new_ones(len(features), 1)
    return torch.cat((features, ones), 1).double()


def read_phones(folder: str | Path) -> dict[Path, list[Interval]]:
    """Find the audio files of a minispeech split and the phones spoken in them.

    Raises
    ------
    BadInput
        If the folder holds no phones, or a table of them is corrupt.
    """
    phones: dict[Path, list[Interval]] = {}
    for table in files_below(folder, ".phones.tsv"):
        with (
            corruption_named(table, "make the corpus again"),
            open(table, encoding="utf-8", newline="") as file,
        ):
            for row in csv.DictReader(file, delimiter="\t"):
                start, end = float(row["start_seconds"]), float(row["end_seconds"])
                audio = table.with_name(f"{row['utterance']}.flac")
                if row["phone"] != SILENCE:
                    interval = Interval(start, end, row["phone"])
                    phones.setdefault(audio, []).append(interval)
    if not phones:
        raise BadInput(
            f"no phones in {folder}: give a split of a corpus made by `birq minispeech`"
        )
    return phones


def phones_of_frames(
    intervals: Sequence[Interval],
    num_frames: int,
    frame_ms: float,
    hop_ms: float = 10.0,
) -> list[str | None]:
    """Return the phone at the middle of each stacked frame; None in silence.

    Arguments
    ---------
    intervals : sequence of Interval
        Phones in the order of time.
    num_frames : int
        T
    frame_ms : float
        Milliseconds from a stacked frame to the next.
    hop_ms : float
        Milliseconds between the frames that are stacked; the first of them is centered
        on sample 0.

    Example
    -------
    >>> phones_of_frames([Interval(0.0, 0.05, "a")], num_frames=3, frame_ms=40)
    ['a', None, None]
    """
    found = []
    for index in range(num_frames):
        middle = (index * frame_ms + (frame_ms - hop_ms) / 2) / 1000
        inside = (i.phone for i in intervals if i.start <= middle < i.end)
        found.append(next(inside, None))
    return found


def accuracy_by_layer(
    run_folder: str | Path,
    train: str | Path,
    test: str | Path,
    trust: Iterable[str] = (),
) -> LayerAccuracy:
    """Classify the phones of single frames from each layer of a run.

    Arguments
    ---------
    run_folder : str or Path
    train, test : str or Path
        Splits with phones, spoken by different speakers.
    trust : iterable
        As for ``SpeechEncoder``.

    Raises
    ------
    BadInput
        If the run cannot be loaded, or a split has no phones.
    """
    encoder = SpeechEncoder(run_folder, trust=trust)
    spoken = [read_phones(folder) for folder in (train, test)]
    files = [file for phones in spoken for file in phones.values()]
    names = sorted({interval.phone for file in files for interval in file})
    classes = {name: index for index, name in enumerate(names)}
    training, unseen = (
        _labeled(encoder, phones, classes, title)
        for phones, title in zip(spoken, ("fit", "score"), strict=True)
    )
    frames, *layers, most_frequent = _shares(_fitted(training, len(names)), unseen)
    return LayerAccuracy(frames, tuple(layers), most_frequent)


def _fitted(batches, num_classes):
    """Fit a classifier to each kind of states."""
    classifiers = []
    for states, phones in batches:
        classifiers = classifiers or [
            RidgeClassifier(num_features=x.shape[1], num_classes=num_classes)
            for x in states
        ]
        for classifier, x in zip(classifiers, states, strict=True):
            classifier.add(x, phones)
    for classifier in classifiers:
        classifier.fit()
    return classifiers


def _shares(classifiers, batches):
    """Return each classifier's share of correct frames; last, the commonest phone's."""
    right, counts = torch.zeros(len(classifiers)), 0
    for states, phones in batches:
        counts += torch.bincount(phones, minlength=classifiers[0].num_classes)
        for index, (classifier, x) in enumerate(zip(classifiers, states, strict=True)):
            right[index] += (classifier.predict(x) == phones).sum()
    return (torch.cat((right, counts.max()[None])) / counts.sum()).tolist()


@torch.no_grad()
def _labeled(encoder, phones, classes, title):
    """Yield (states of frames and each layer, phones) of each file, without silence."""
    frontend = encoder.frontend
    hop_ms = frontend.frame_ms / frontend.stack
    for path, intervals in tqdm(phones.items(), title, unit="file"):
        frames = frontend(encoder.read(path), torch.ones(1))
        states = (frames.frames, *encoder.encoder.hidden_states(*frames))
        names = phones_of_frames(
            intervals, frames.frames.shape[1], frontend.frame_ms, hop_ms
        )
        spoken = torch.tensor([name is not None for name in names])
        labels = torch.tensor([classes[name] for name in names if name is not None])
        yield [state[0, spoken] for state in states], labels.long()
