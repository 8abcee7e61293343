"""Masked cross-entropy against hard and soft labels: G, F and their penalty sum."""

from typing import NamedTuple

import torch
from torch.utils.checkpoint import checkpoint

from speechbrain_birq.models.full_precision import full_precision


class Objective(NamedTuple):
    """Sums over the masked frames of a batch, per codebook, on the device.

    They are sums, not means, so that any split of a batch gives the same gradient.
    """

    anchor_loss: torch.Tensor  # (G,) lower level: sum of L(θ; x̃, y)
    enhanced_loss: torch.Tensor  # (G,) upper level: sum of L(θ; x̃, y^(k)), or 0
    num_frames: torch.Tensor  # () int64, M
    anchor_correct: torch.Tensor  # (G,) frames whose label is the most probable code
    enhanced_correct: torch.Tensor  # (G,)
    anchor_codes: torch.Tensor  # (M, G) int64
    enhanced_codes: torch.Tensor  # (M, G) int64, nearest codes, or (0, G)
    label_cost: torch.Tensor  # (G,) sum of the label terms, or 0


class PredictionHeads(torch.nn.Module):
    """Linear layers from the encoder's output to the logits of every codebook.

    Arguments
    ---------
    input_dim : int
        H
    num_codebooks : int
        G
    num_codes : int
        N
    shared : bool
        Whether both kinds of labels share one layer (the paper) or each has its own.

    Example
    -------
    >>> heads = PredictionHeads(input_dim=4, num_codebooks=2, num_codes=8)
    >>> heads.anchor_logits(torch.randn(5, 4)).shape
    torch.Size([5, 2, 8])
    """

    def __init__(
        self, *, input_dim: int, num_codebooks: int, num_codes: int, shared: bool = True
    ) -> None:
        super().__init__()
        self.input_dim, self.shape = input_dim, (num_codebooks, num_codes)
        self.shared = shared
        self.anchor = torch.nn.Linear(input_dim, num_codebooks * num_codes)
        self.enhanced: torch.nn.Linear | None = None
        if not shared:
            self.enhanced = torch.nn.Linear(input_dim, num_codebooks * num_codes)

    def anchor_logits(self, states: torch.Tensor) -> torch.Tensor:
        """Score the codes as anchor labels: (M, H) -> (M, G, N)."""
        return self.anchor(states).unflatten(-1, self.shape)

    def enhanced_logits(self, states: torch.Tensor) -> torch.Tensor:
        """Score the codes as enhanced labels: (M, H) -> (M, G, N)."""
        head = self.anchor if self.enhanced is None else self.enhanced
        return head(states).unflatten(-1, self.shape)


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Compute L = −Σ_t y_tᵀ log softmax(o_t) for each codebook, in float32.

    Arguments
    ---------
    logits : torch.Tensor
        (M, G, N)
    labels : torch.Tensor
        (M, G) int64, or (M, G, N) distributions, through which the gradient flows.

    Returns
    -------
    torch.Tensor
        (G,)

    Example
    -------
    >>> cross_entropy(torch.zeros(3, 1, 2), torch.zeros(3, 1, dtype=torch.long))
    tensor([2.0794])
    """
    return _against(labels, logits.float().log_softmax(-1))


def _against(labels, log_probs):
    if labels.dim() == log_probs.dim():
        # vecdot and not a product and a sum, because (M, G, N) is large.
        with full_precision(log_probs.device):
            return -torch.linalg.vecdot(labels.float(), log_probs).sum(0)
    return -log_probs.gather(-1, labels.unsqueeze(-1)).sum((0, 2))


def masked_objective(
    states: torch.Tensor,
    heads: PredictionHeads,
    anchor_codes: torch.Tensor,
    enhanced_labels: torch.Tensor | None,
    enhanced_codes: torch.Tensor | None = None,
    chunk: int = 2048,
) -> Objective:
    """Compute F and G of the masked frames, chunk by chunk.

    If there is more than one chunk, the logits of a chunk are recomputed in the
    backward pass, so those of all frames never exist at once.

    Arguments
    ---------
    states : torch.Tensor
        (M, H) last layer's output at the masked frames.
    heads : PredictionHeads
        Output layers.
    anchor_codes : torch.Tensor
        (M, G) int64
    enhanced_labels : torch.Tensor or None
        (M, G, N) soft labels y^(k); None for the anchor labels only, which is BEST-RQ.
    enhanced_codes : torch.Tensor, optional
        (M, G) int64 codes to report the usage of. By default the labels' maxima, but
        noise spreads these over the codes even where layer k carries no information.
    chunk : int
        Number of frames in a chunk.
    """
    parts = [
        _chunk_sums(
            states[start : start + chunk],
            heads,
            anchor_codes[start : start + chunk],
            None if enhanced_labels is None else enhanced_labels[start : start + chunk],
            recompute=states.shape[0] > chunk and torch.is_grad_enabled(),
        )
        # At least one chunk, so that a batch without masked frames has a loss, too: a 0
        # that depends on the parameters, as DDP needs.
        for start in range(0, max(1, states.shape[0]), chunk)
    ]
    anchor, enhanced, anchor_correct, enhanced_correct = (
        torch.stack(column).sum(0) for column in zip(*parts, strict=True)
    )
    if enhanced_labels is None:
        enhanced_codes = anchor_codes[:0]
    elif enhanced_codes is None:
        enhanced_codes = enhanced_labels.detach().argmax(-1)
    return Objective(
        anchor_loss=anchor,
        enhanced_loss=enhanced,
        num_frames=torch.full((), states.shape[0], device=states.device),
        anchor_correct=anchor_correct,
        enhanced_correct=enhanced_correct,
        anchor_codes=anchor_codes,
        enhanced_codes=enhanced_codes,
        label_cost=torch.zeros_like(anchor.detach()),
    )


def _chunk_sums(states, heads, anchor_codes, enhanced_labels, recompute):
    if recompute:
        return checkpoint(
            _sums, states, heads, anchor_codes, enhanced_labels, use_reentrant=False
        )
    return _sums(states, heads, anchor_codes, enhanced_labels)


def _sums(states, heads, anchor_codes, enhanced_labels):
    log_probs = heads.anchor_logits(states).float().log_softmax(-1)
    guesses = log_probs.detach().argmax(-1)
    anchor = _against(anchor_codes, log_probs)
    anchor_correct = (guesses == anchor_codes).sum(0)
    if enhanced_labels is None:
        zero = torch.zeros_like(anchor.detach())
        return anchor, zero, anchor_correct, torch.zeros_like(anchor_correct)
    if not heads.shared:
        log_probs = heads.enhanced_logits(states).float().log_softmax(-1)
        guesses = log_probs.detach().argmax(-1)
    enhanced = _against(enhanced_labels, log_probs)
    enhanced_correct = (guesses == enhanced_labels.detach().argmax(-1)).sum(0)
    return anchor, enhanced, anchor_correct, enhanced_correct


def penalty_sum(
    objective: Objective, enhanced_weight: float, anchor_weight: float
) -> torch.Tensor:
    """Compute w₁ F + w₂ G, the penalty form of the bilevel problem, summed over frames.

    Several codebooks enter with the mean of their losses. Label terms, where there are
    any, are part of the upper level: w₁ (F + terms).

    Arguments
    ---------
    objective : Objective
        Sums over the masked frames.
    enhanced_weight : float
        w₁
    anchor_weight : float
        w₂ (penalty constant γ = w₂ / w₁)

    Example
    -------
    >>> heads = PredictionHeads(input_dim=4, num_codebooks=1, num_codes=8)
    >>> codes = torch.tensor([[3], [7]])
    >>> objective = masked_objective(torch.zeros(2, 4), heads, codes, None)
    >>> penalty_sum(objective, 0.1, 2.4).shape
    torch.Size([])
    """
    upper = (objective.enhanced_loss + objective.label_cost).mean()
    return enhanced_weight * upper + anchor_weight * objective.anchor_loss.mean()


def code_counts(codes: torch.Tensor, num_codes: int) -> torch.Tensor:
    """Count how often each code occurs: (M, G) int64 -> (G, N) int64.

    Example
    -------
    >>> code_counts(torch.tensor([[0], [2], [2]]), 3).tolist()
    [[1, 0, 2]]
    """
    counts = [torch.bincount(c, minlength=num_codes) for c in codes.unbind(1)]
    return torch.stack(counts)
