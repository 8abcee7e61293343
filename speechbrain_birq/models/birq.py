"""BiRQ: clean pass to labels, masked pass to losses (Algorithm 1 of the paper)."""

from typing import NamedTuple

import torch

from speechbrain_birq.distributed import total
from speechbrain_birq.models.encoders.encoder import check_encoder
from speechbrain_birq.models.frontend import Frames
from speechbrain_birq.models.masking import fill_masked, hidden_rows, take
from speechbrain_birq.models.objectives import Objective, masked_objective


class Labels(NamedTuple):
    """Codes of both kinds for every frame."""

    anchor: torch.Tensor  # (B, T, G) int64
    enhanced: torch.Tensor  # (B, T, G) int64, without noise
    lengths: torch.Tensor  # (B,) int64


class SoftLabels(NamedTuple):
    """Enhanced labels of the masked frames."""

    labels: torch.Tensor | None  # (M, G, N) y^(k); None: the anchor alone
    codes: torch.Tensor | None  # (M, G) int64, nearest codes: no noise in them


NO_LABELS = SoftLabels(None, None)


class BiRQ(torch.nn.Module):
    """Masked prediction of anchor labels (input) and enhanced labels (layer k).

    Arguments
    ---------
    frontend : FrontEnd
    encoder : torch.nn.Module
        ``encoder(frames, lengths, num_layers=None)``, as ``SpeechBrainEncoder`` or as
        ``docs/encoders.md`` describes one's own.
    anchor_quantizer : RandomProjectionQuantizer
        Of the stacked frames.
    enhanced_quantizer : RandomProjectionQuantizer
        Of the normalised output of layer k.
    selector : GumbelSoftmaxSelector
    heads : PredictionHeads
    label_layer : int
        k, 1 to K.
    label_norm : LabelNorm
    mask_noise_std : float
        Standard deviation of the noise in masked frames.
    chunk : int
        Masked frames whose logits exist at once.
    chunking : ChunkSampler, optional
        Chunks that the masked pass is encoded in, in training. The label pass always
        sees the whole utterance: who sets the task may know the future.

    Raises
    ------
    ValueError
        If ``label_layer`` is not one of the encoder's layers, or the encoder lacks what
        one needs.
    """

    def __init__(
        self,
        *,
        frontend,
        encoder,
        anchor_quantizer,
        enhanced_quantizer,
        selector,
        heads,
        label_layer,
        label_norm,
        mask_noise_std=0.1,
        chunk=2048,
        chunking=None,
    ):
        super().__init__()
        check_encoder(encoder)
        if not 1 <= label_layer <= encoder.num_layers:
            raise ValueError(
                f"label_layer {label_layer} is out of range: the encoder has layers 1 "
                f"to {encoder.num_layers}"
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

    def forward(
        self, wavs, wav_lens, mask, enhanced=True, targets=None, generator=None
    ) -> Objective:
        """Labels, then losses.

        Arguments
        ---------
        wavs : torch.Tensor
            (B, S) clean waveforms.
        wav_lens : torch.Tensor
            (B,) relative lengths.
        mask : torch.Tensor
            (B, T) bool, True = hidden.
        enhanced : bool
            Whether enhanced labels are wanted; without them no label pass is run.
        targets : torch.Tensor, optional
            (B, T, G) int64 stored codes in place of the anchor labels.
        generator : torch.Generator, optional
            Draws mask noise and Gumbel noise, on the waveforms' device; by default
            torch's own.

        Returns
        -------
        Objective
        """
        clean = self.frontend(wavs, wav_lens)
        mask = mask & clean.valid
        rows = hidden_rows(mask)
        anchor_codes = self._anchor_codes(clean, rows, targets)
        labels = NO_LABELS
        if enhanced:
            # Every utterance has hidden frames but that of a rank without a batch.
            counted = clean.valid & mask.any(1, keepdim=True)
            labels = self.select_labels(clean, rows, counted, generator)
        hidden = take(self.encode_masked(clean, mask, generator), rows)
        return masked_objective(
            hidden, self.heads, anchor_codes, *labels, chunk=self.chunk
        )

    def select_labels(
        self, clean: Frames, rows, counted=None, generator=None
    ) -> SoftLabels:
        """y^(k) at the masked frames: layers 1..k on the clean input.

        Arguments
        ---------
        clean : Frames
        rows : torch.Tensor
            (M,) numbers of the masked frames.
        counted : torch.Tensor, optional
            (B, T) bool, what enters the statistics of ``label_norm``, those of all
            processes; by default all frames that are not padding.
        generator : torch.Generator, optional
            Draws the Gumbel noise.

        Returns
        -------
        SoftLabels
        """
        wants_gradient = self.selector.gradient and torch.is_grad_enabled()
        with torch.set_grad_enabled(wants_gradient):
            states = take(self.label_states(clean, counted, total=total), rows)
            distances = self.enhanced_quantizer.distances(states)
            labels = self.selector(distances, generator)
            return SoftLabels(labels, distances.detach().argmin(-1))

    def label_states(self, clean: Frames, counted=None, **options) -> torch.Tensor:
        """z^(k): the normalised output of layer k on the clean input; (B, T, H).

        ``counted`` as for ``select_labels``, ``options`` as for ``LabelNorm.forward``.
        """
        states = self.encoder(clean.frames, clean.lengths, num_layers=self.label_layer)
        counted = clean.valid if counted is None else counted
        return self.label_norm(states, counted, **options)

    def encode_masked(
        self, clean: Frames, mask: torch.Tensor, generator=None
    ) -> torch.Tensor:
        """Last layer's output on x̃; (B, T, H)."""
        hidden = fill_masked(clean.frames, mask, self.mask_noise_std, generator)
        chunk = self.chunking() if self.training and self.chunking else None
        if chunk is None:
            return self.encoder(hidden, clean.lengths)
        return self.encoder(hidden, clean.lengths, chunk=chunk)

    @torch.no_grad()
    def labels(self, wavs, wav_lens) -> Labels:
        """Codes of both kinds for all frames, for diagnostics and relabelling."""
        clean = self.frontend(wavs, wav_lens)
        enhanced = self.enhanced_quantizer(self.label_states(clean))
        return Labels(self.anchor_quantizer(clean.frames), enhanced, clean.lengths)

    def _anchor_codes(self, clean, rows, targets):
        if targets is None:
            return self.anchor_quantizer(take(clean.frames, rows))
        return take(targets, rows)
