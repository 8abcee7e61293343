"""What a frozen encoder knows: CTC on a weighted sum of all its layers."""

import torch
from speechbrain.utils.dynamic_chunk_training import DynChunkTrainConfig

from speechbrain_birq.models.ctc import CTCModel
from speechbrain_birq.models.encoders.chunking import ChunkSampler
from speechbrain_birq.models.encoders.interface import Encoder
from speechbrain_birq.models.frontend import FrontEnd


class LayerMixture(torch.nn.Module):
    """Linear layer on Σ_l w_l LayerNorm(h_l), w = softmax of trained scores.

    The normalization makes the layers comparable: without it the layer of the largest
    scale would outweigh the one that knows most.

    Arguments
    ---------
    num_states : int
        Number of inputs: the input projection and the layers, K + 1.
    dim : int
        H
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

    def __init__(self, *, num_states: int, dim: int, num_tokens: int) -> None:
        super().__init__()
        self.scores = torch.nn.Parameter(torch.zeros(num_states))
        self.linear = torch.nn.Linear(dim, num_tokens)

    @property
    def weights(self) -> torch.Tensor:
        """Shares of the layers, (K + 1,); their sum is 1."""
        return self.scores.softmax(0)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Mix the layers: (K + 1, B, T, H) -> (B, T, V)."""
        normed = torch.nn.functional.layer_norm(states, states.shape[-1:])
        return self.linear(torch.tensordot(self.weights, normed, 1))


class ProbeModel(CTCModel):
    """``CTCModel`` with a mixture of all layers as its head; the encoder never learns.

    Arguments
    ---------
    frontend : FrontEnd
        The front end of pretraining, unchanged.
    encoder : Encoder
        Has ``hidden_states(frames, lengths)``. It gets no gradient and no dropout.
    num_tokens : int
        V, the blank (0) included.
    augment : torch.nn.Module, optional
        Changes the frames in training.
    dropout : float
        Dropout of the layers' outputs.
    chunking : ChunkSampler, optional
        As for ``CTCModel``.

    Raises
    ------
    ValueError
        As for ``CTCModel``.
    """

    def __init__(
        self,
        *,
        frontend: FrontEnd,
        encoder: Encoder,
        num_tokens: int,
        augment: torch.nn.Module | None = None,
        dropout: float = 0.0,
        chunking: ChunkSampler | None = None,
    ) -> None:
        super().__init__(
            frontend=frontend,
            encoder=encoder,
            num_tokens=num_tokens,
            augment=augment,
            dropout=dropout,
            chunking=chunking,
        )
        self.head = LayerMixture(
            num_states=encoder.num_layers + 1,
            dim=encoder.output_dim,
            num_tokens=num_tokens,
        )
        encoder.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "ProbeModel":
        """Set the training mode of everything but the encoder."""
        super().train(mode)
        self.encoder.eval()
        return self

    def encode(
        self,
        frames: torch.Tensor,
        lengths: torch.Tensor,
        chunk: DynChunkTrainConfig | None = None,
    ) -> torch.Tensor:
        """Return the outputs of all layers: (B, T, D), (B,) -> (K + 1, B, T, H)."""
        if chunk is None:
            return torch.stack(self.encoder.hidden_states(frames, lengths))
        return torch.stack(self.encoder.hidden_states(frames, lengths, chunk=chunk))
