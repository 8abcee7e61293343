"""Label the same frames in several ways: as a run does, by each layer, by k-means."""

import copy
from collections.abc import Iterable

import torch
from speechbrain.dataio.batch import PaddedBatch
from tqdm import tqdm

from speechbrain_birq.errors import BadInput
from speechbrain_birq.models.birq import BiRQ
from speechbrain_birq.models.frontend import valid_frames
from speechbrain_birq.models.labels import k_means, nearest, one_each

Found = dict[str, dict[str, torch.Tensor]]

FIT_FRAMES = 50_000  # k-means is fitted to at most this many
ITERATIONS = 20


class KMeans:
    """K-means codes of vectors, started from randomly drawn ones.

    Arguments
    ---------
    vectors : torch.Tensor
        (M, D)
    num_codes : int
        N; with fewer vectors than that each one is a centroid.

    Example
    -------
    >>> codes = KMeans(torch.tensor([[0.0], [0.1], [9.0], [9.1]]), 2)
    >>> (codes(torch.tensor([[1.0]])) == codes(torch.tensor([[-1.0]]))).item()
    True
    """

    def __init__(self, vectors: torch.Tensor, num_codes: int) -> None:
        num_codes = min(num_codes, len(vectors))
        generator = torch.Generator().manual_seed(0)
        start = one_each(len(vectors), num_codes, generator)
        codes = vectors.new_zeros(num_codes, vectors.shape[1])
        self.codes = k_means(vectors, codes, start, rounds=ITERATIONS)

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the code of each vector: (M, D) -> (M, 1) int64."""
        return nearest(vectors, self.codes).unsqueeze(1)


class LabelSets:
    """Several labelings of the same frames.

    The labels named ``layer j`` are made like the enhanced ones, but of layer j (0 is
    the input projection): with the run's projection and codebook, and with channel
    statistics of that layer.

    Arguments
    ---------
    model : BiRQ
        The run's model in evaluation mode.
    trained : bool
        Whether the run had enhanced labels.
    before : BiRQ, optional
        The same run at an earlier checkpoint, to count labels that have changed since.
    """

    def __init__(
        self, model: BiRQ, *, trained: bool = True, before: BiRQ | None = None
    ) -> None:
        self.model, self.trained, self.before = model, trained, before
        layers = range(model.encoder.num_layers + 1)
        self.norms = [copy.deepcopy(model.label_norm) for _ in layers]

    @torch.no_grad()
    def fit(self, loader: Iterable[PaddedBatch | None]) -> None:
        """Estimate the channel statistics of each layer and fit k-means.

        Arguments
        ---------
        loader : iterable
            Batches with ``sig``, in random order; None is skipped.

        Raises
        ------
        BadInput
            If nothing could be read.
        """
        for norm in self.norms:
            norm.num_batches.zero_()
            norm.train()
        layer, kept, count = self.model.label_layer, [], 0
        for batch in _read(loader, "fit"):
            clean = self.model.frontend(*batch.sig)
            valid = valid_frames(clean.lengths, clean.frames.shape[1])
            states = self.model.encoder.hidden_states(*clean)
            normed = [
                norm(state, valid)
                for norm, state in zip(self.norms, states, strict=True)
            ]
            if count < FIT_FRAMES:
                # Statistics of the whole half are known at its end only.
                source = states if self.norms[layer].estimated else normed
                kept.append((clean.frames[valid], source[layer][valid]))
                count += len(kept[-1][0])
        for norm in self.norms:
            norm.eval()
        if not count:
            raise BadInput("no recording of the fitting half can be read: repair them")
        frames, hidden = (
            torch.cat(part)[:FIT_FRAMES] for part in zip(*kept, strict=True)
        )
        num_codes = self.model.heads.shape[1]
        self.of_frames = KMeans(frames, num_codes)
        if self.norms[layer].estimated:
            everything = torch.ones(1, len(hidden), dtype=torch.bool)
            hidden = self.norms[layer](hidden.unsqueeze(0), everything)[0]
        self.of_layer = KMeans(hidden, num_codes)

    @torch.no_grad()
    def label(self, loader: Iterable[PaddedBatch | None]) -> tuple[Found, Found]:
        """Label every utterance.

        Arguments
        ---------
        loader : iterable
            Batches with ``sig`` and ``id``; None is skipped.

        Returns
        -------
        dict, dict
            name of the label set -> utterance -> (T, G) int64; the same for the labels
            of ``before``.
        """
        now: Found = {}
        earlier: Found = {}
        for batch in _read(loader, "measure"):
            own = self.model.labels(*batch.sig)
            _keep(now, batch.id, self._sets(batch, own), own.lengths)
            if self.before is not None and self.trained:
                old = {"enhanced": self.before.labels(*batch.sig).enhanced}
                _keep(earlier, batch.id, old, own.lengths)
        return now, earlier

    def _sets(self, batch, own):
        """name -> (B, T, G)"""
        clean = self.model.frontend(*batch.sig)
        states = self.model.encoder.hidden_states(*clean)
        sets = {"anchor": own.anchor}
        if self.trained:
            sets["enhanced"] = own.enhanced
        normed = [
            norm(state, clean.valid)
            for norm, state in zip(self.norms, states, strict=True)
        ]
        for layer, state in enumerate(normed):
            sets[f"layer {layer}"] = self.model.enhanced_quantizer(state)
        layer = self.model.label_layer
        sets["k-means, frames"] = _each_row(self.of_frames, clean.frames)
        sets[f"k-means, layer {layer}"] = _each_row(self.of_layer, normed[layer])
        return sets


def _each_row(quantizer, inputs):
    """(B, T, D) -> (B, T, 1)"""
    return quantizer(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])


def _read(loader, title):
    return (batch for batch in tqdm(loader, title) if batch is not None)


def _keep(found, utterances, sets, lengths):
    for name, codes in sets.items():
        rows = zip(utterances, codes, lengths.tolist(), strict=True)
        kept = found.setdefault(name, {})
        kept.update((utterance, row[:length]) for utterance, row, length in rows)
