"""What a frozen encoder knows: CTC on a weighted sum of all its layers."""

import torch

from speechbrain_birq.models.ctc import CTCModel


class LayerMixture(torch.nn.Module):
    """Linear layer on Σ_l w_l LayerNorm(h_l), w = softmax of learnt scores.

    Without the normalisation the layer of the largest scale would win, not the one that
    knows most.

    Arguments
    ---------
    num_states : int
        Input projection and layers, K + 1.
    dim : int
        H, width of the encoder.
    num_tokens : int
        V

    Example
    -------
    >>> mixture = LayerMixture(num_states=3, dim=4, num_tokens=5)
    >>> mixture(torch.randn(3, 2, 7, 4)).shape
    torch.Size([2, 7, 5])
    >>> mixture.weights.tolist()
    [0.3333333432674408, 0.3333333432674408, 0.3333333432674408]
    """

    def __init__(self, *, num_states, dim, num_tokens):
        super().__init__()
        self.scores = torch.nn.Parameter(torch.zeros(num_states))
        self.linear = torch.nn.Linear(dim, num_tokens)

    @property
    def weights(self) -> torch.Tensor:
        """(K + 1,) shares of the layers, sum 1."""
        return self.scores.softmax(0)

    def forward(self, states):
        """(K + 1, B, T, H) -> (B, T, V)"""
        normed = torch.nn.functional.layer_norm(states, states.shape[-1:])
        return self.linear(torch.tensordot(self.weights, normed, 1))


class ProbeModel(CTCModel):
    """``CTCModel`` whose encoder never moves and of which every layer is heard.

    Arguments
    ---------
    frontend : FrontEnd
    encoder : torch.nn.Module
        With ``hidden_states(frames, lengths)``.
    num_tokens : int
        V, the blank (0) included.
    augment : SpecAugment, optional
        As for ``CTCModel``.
    dropout : float
        Of the layers' outputs.
    """

    def __init__(self, *, frontend, encoder, num_tokens, augment=None, dropout=0.0):
        super().__init__(
            frontend=frontend,
            encoder=encoder,
            num_tokens=num_tokens,
            augment=augment,
            dropout=dropout,
        )
        self.head = LayerMixture(
            num_states=encoder.num_layers + 1,
            dim=encoder.output_dim,
            num_tokens=num_tokens,
        )
        encoder.requires_grad_(False)
        self.freeze_encoder(True)

    def freeze_encoder(self, frozen: bool) -> None:
        """It is always frozen."""
        super().freeze_encoder(True)

    def encode(self, frames, lengths, chunk=None) -> torch.Tensor:
        """All layers' outputs: (K + 1, B, T, H)."""
        return torch.stack(self.encoder.hidden_states(frames, lengths))
