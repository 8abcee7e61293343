"""BiRQ: clean pass to labels, masked pass to losses (Algorithm 1 of the paper)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from speechbrain_birq.config.keys import FROM_0
from speechbrain_birq.distributed import total, unchanged
from speechbrain_birq.models.encoders.chunking import ChunkSampler
from speechbrain_birq.models.encoders.interface import Encoder, check_encoder
from speechbrain_birq.models.frontend import Frames, FrontEnd
from speechbrain_birq.models.labels.label_norm import LabelNorm
from speechbrain_birq.models.labels.label_terms import LabelTerm
from speechbrain_birq.models.labels.quantizer import RandomProjectionQuantizer
from speechbrain_birq.models.labels.selector import GumbelSoftmaxSelector
from speechbrain_birq.models.masking import fill_masked, masked_rows, take
from speechbrain_birq.models.objectives import (
    Objective,
    PredictionHeads,
    masked_objective,
)
from speechbrain_birq.models.part_sizes import check_sizes


class Labels(NamedTuple):
    """Codes of both kinds for every frame."""

    anchor: torch.Tensor  # (B, T, G) int64
    enhanced: torch.Tensor  # (B, T, G) int64, without noise
    lengths: torch.Tensor  # (B,) int64


class SoftLabels(NamedTuple):
    """Enhanced labels of the masked frames; None: only the anchor labels count."""

    labels: torch.Tensor | None  # (M, G, N) y^(k)
    codes: torch.Tensor | None  # (M, G) int64, nearest codes
    cost: torch.Tensor | None  # (G,) sum of the label terms; None: there are none


NO_LABELS = SoftLabels(None, None, None)


class BiRQ(torch.nn.Module):
    """Masked prediction of anchor labels (input) and enhanced labels (layer k).

    Arguments
    ---------
    frontend : FrontEnd
        Waveforms to stacked frames.
    encoder : Encoder
        ``encoder(frames, lengths, num_layers=None)``: a ``SpeechBrainEncoder`` or one's
        own, see ``docs/encoders.md``.
    anchor_quantizer : RandomProjectionQuantizer
        Quantizes the stacked frames.
    enhanced_quantizer : RandomProjectionQuantizer
        Quantizes the normalized output of layer k.
    selector : GumbelSoftmaxSelector
        Turns distances into soft labels.
    heads : PredictionHeads
        Output layers.
    label_layer : int
        k, 1 to K.
    label_norm : LabelNorm
        Normalizes the output of layer k.
    mask_noise_std : float
        Standard deviation of the noise in masked frames.
    chunk : int
        Number of masked frames whose logits are in memory at once.
    chunking : ChunkSampler, optional
        Draws the chunks that the masked pass is encoded in, in training. The label pass
        always sees the whole utterance: targets may use future context, only the
        predictor is restricted.
    label_terms : sequence of LabelTerm
        Costs of the enhanced labels that are added to F, for labels with a gradient.

    Raises
    ------
    ValueError
        If ``label_layer`` is not one of the encoder's layers, the encoder lacks a
        needed method, ``mask_noise_std`` is no finite number from 0, or sizes of the
        parts contradict each other (``check_sizes``).
    """

    def __init__(
        self,
        *,
        frontend: FrontEnd,
        encoder: Encoder,
        anchor_quantizer: RandomProjectionQuantizer,
        enhanced_quantizer: RandomProjectionQuantizer,
        selector: GumbelSoftmaxSelector,
        heads: PredictionHeads,
        label_layer: int,
        label_norm: LabelNorm,
        mask_noise_std: float = 0.1,
        chunk: int = 2048,
        chunking: ChunkSampler | None = None,
        label_terms: Sequence[LabelTerm] = (),
    ) -> None:
        super().__init__()
        check_encoder(encoder)
        if not 1 <= label_layer <= encoder.num_layers:
            raise ValueError(
                f"label_layer {label_layer} is out of range: the encoder has layers 1 "
                f"to {encoder.num_layers}"
            )
        FROM_0.check("BiRQ", mask_noise_std=mask_noise_std)
        check_sizes(
            frontend=frontend,
            encoder=encoder,
            anchor_quantizer=anchor_quantizer,
            enhanced_quantizer=enhanced_quantizer,
            label_norm=label_norm,
            heads=heads,
            label_terms=label_terms,
        )
        self.frontend, self.encoder = frontend, encoder
        self.anchor_quantizer = anchor_quantizer
        self.enhanced_quantizer = enhanced_quantizer
        self.selector, self.heads = selector, heads
        self.label_layer, self.label_norm = label_layer, label_norm
        self.mask_noise_std, self.chunk = mask_noise_std, chunk
        if chunking is not None:
            chunking.check(frontend, encoder)
        self.chunking = chunking
        self.label_terms = torch.nn.ModuleList(label_terms)

    def forward(
        self,
        wavs: torch.Tensor,
        wav_lens: torch.Tensor,
        mask: torch.Tensor,
        enhanced: bool = True,
        targets: torch.Tensor | None = None,
        num_masked: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Objective:
        """Label the clean input, predict the labels from the masked input.

        Arguments
        ---------
        wavs : torch.Tensor
            (B, S) clean waveforms.
        wav_lens : torch.Tensor
            (B,) relative lengths.
        mask : torch.Tensor
            (B, T) bool, True = masked. Padding is never masked, whatever it says.
        enhanced : bool
            Whether enhanced labels are computed; without them no label pass is run,
            which is BEST-RQ.
        targets : torch.Tensor, optional
            (B, T, G) int64 stored codes in place of the anchor labels.
        num_masked : int, optional
            M, the number of masked frames without padding. If it is given, nothing
            synchronizes with the GPU.
        generator : torch.Generator, optional
            Draws mask noise and Gumbel noise, on the waveforms' device; by default
            torch's own.
        """
        clean = self.frontend(wavs, wav_lens)
        mask = mask & clean.valid
        rows = masked_rows(mask, num_masked)
        anchor_codes = self._anchor_codes(clean, rows, targets)
        labels = NO_LABELS
        if enhanced:
            # A rank without data runs one silent, unmasked dummy utterance; keep it
            # out of the statistics. All other utterances have masked frames.
            counted = clean.valid & mask.any(1, keepdim=True)
            labels = self.select_labels(clean, rows, counted, generator)
        predicted = take(self.encode_masked(clean, mask, generator), rows)
        objective = masked_objective(
            predicted,
            self.heads,
            anchor_codes,
            labels.labels,
            labels.codes,
            chunk=self.chunk,
        )
        if labels.cost is None:
            return objective
        return objective._replace(label_cost=labels.cost)

    def select_labels(
        self,
        clean: Frames,
        rows: torch.Tensor,
        counted: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> SoftLabels:
        """Compute y^(k) at the masked frames: layers 1..k on the clean input.

        Arguments
        ---------
        clean : Frames
            Frames that are not masked.
        rows : torch.Tensor
            (M,) indices of the masked frames, see ``masked_rows``.
        counted : torch.Tensor, optional
            (B, T) bool, frames that enter the statistics of ``label_norm``, which are
            those of all ranks; by default all valid ones.
        generator : torch.Generator, optional
            Draws the Gumbel noise.
        """
        wanted = self.selector.gradient or len(self.label_terms) > 0
        with torch.set_grad_enabled(wanted and torch.is_grad_enabled()):
            states = take(self.label_states(clean, counted, total=total), rows)
            distances = self.enhanced_quantizer.distances(states)
            labels = self.selector(distances, generator)
            cost = self._label_cost(labels, clean, rows)
        if not self.selector.gradient:
            labels = labels.detach()
        return SoftLabels(labels, distances.detach().argmin(-1), cost)

    def _label_cost(self, labels, clean, rows):
        if not self.label_terms:
            return None
        frames = take(clean.frames, rows)
        return torch.stack([term(labels, frames) for term in self.label_terms]).sum(0)

    def label_states(
        self,
        clean: Frames,
        counted: torch.Tensor | None = None,
        total: Callable[[torch.Tensor], torch.Tensor] = unchanged,
    ) -> torch.Tensor:
        """Compute z^(k), the normalized output of layer k on the clean input.

        Arguments
        ---------
        clean : Frames
            Frames that are not masked.
        counted : torch.Tensor, optional
            As for ``select_labels``.
        total : callable
            As for ``LabelNorm.forward``.

        Returns
        -------
        torch.Tensor
            (B, T, H)
        """
        states = self.encoder(clean.frames, clean.lengths, num_layers=self.label_layer)
        counted = clean.valid if counted is None else counted
        return self.label_norm(states, counted, total)

    def encode_masked(
        self,
        clean: Frames,
        mask: torch.Tensor,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Return the last layer's output on x̃, the input with masked frames: (B, T, H).

        ``mask`` is (B, T) bool; ``generator`` draws the noise in the masked frames.
        """
        noisy = fill_masked(clean.frames, mask, self.mask_noise_std, generator)
        chunk = self.chunking() if self.training and self.chunking else None
        if chunk is None:
            return self.encoder(noisy, clean.lengths)
        return self.encoder(noisy, clean.lengths, chunk=chunk)

    @torch.no_grad()
    def labels(self, wavs: torch.Tensor, wav_lens: torch.Tensor) -> Labels:
        """Return the codes of both kinds for all frames, for diagnostics, relabeling.

        Arguments
        ---------
        wavs : torch.Tensor
            (B, S)
        wav_lens : torch.Tensor
            (B,) relative lengths.
        """
        clean = self.frontend(wavs, wav_lens)
        enhanced = self.enhanced_quantizer(self.label_states(clean))
        return Labels(self.anchor_quantizer(clean.frames), enhanced, clean.lengths)

    def _anchor_codes(self, clean, rows, targets):
        if targets is None:
            return self.anchor_quantizer(take(clean.frames, rows))
        return take(targets, rows)
