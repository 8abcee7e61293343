"""Frozen random codebooks and random projections: distances and nearest codes."""

import torch
from torch.nn.functional import normalize


class Codebook(torch.nn.Module):
    """Frozen random codes, drawn from N(0, 1): C of the paper.

    The paper's two quantizers share one codebook: give both the same instance.

    Arguments
    ---------
    num_codebooks : int
        G, independent codebooks; each has its own labels and its own part of the loss.
    num_codes : int
        N, codes in each.
    code_dim : int
        d_c, dimension of a code.
    l2_normalize : bool
        Codes and projections of unit length, as in BEST-RQ. The paper's equations
        have none of it.
    seed : int
        The codes depend on nothing else.

    Example
    -------
    >>> Codebook(num_codebooks=1, num_codes=256, code_dim=16, seed=0).codes.shape
    torch.Size([1, 256, 16])
    """

    def __init__(
        self, *, num_codebooks=1, num_codes, code_dim=16, l2_normalize=False, seed=0
    ):
        super().__init__()
        shape = (num_codebooks, num_codes, code_dim)
        codes = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        self.l2_normalize = l2_normalize
        self.register_buffer(
            "codes", normalize(codes, dim=-1) if l2_normalize else codes
        )

    @property
    def shape(self) -> torch.Size:
        """(G, N, C)"""
        return self.codes.shape


class RandomProjectionQuantizer(torch.nn.Module):
    """A frozen random projection and the distances to every code.

    distances(x)[g, n] = ‖P_gᵀ x − C_gn‖², codes(x)[g] = argmin_n of it. Float32
    whatever autocast says: in bfloat16 0.7 % of the labels flip.

    Arguments
    ---------
    input_dim : int
        D, dimension of the vectors to quantize.
    codebook : Codebook
        May be shared with another quantizer.
    seed : int
        Of the projection (Xavier uniform), independent of the codebook's.

    Example
    -------
    >>> codebook = Codebook(num_codebooks=2, num_codes=8, code_dim=4)
    >>> quantizer = RandomProjectionQuantizer(input_dim=6, codebook=codebook, seed=1)
    >>> quantizer(torch.randn(5, 3, 6)).shape
    torch.Size([5, 3, 2])
    """

    fittable = False

    def __init__(self, *, input_dim, codebook, seed):
        super().__init__()
        groups, _, code_dim = codebook.shape
        generator = torch.Generator().manual_seed(seed)
        projection = torch.empty(groups, input_dim, code_dim)
        for matrix in projection:
            torch.nn.init.xavier_uniform_(matrix, generator=generator)
        self.codebook = codebook
        self.register_buffer("projection", projection)

    def distances(self, inputs: torch.Tensor) -> torch.Tensor:
        """Squared Euclidean distances, by one matrix product.

        Arguments
        ---------
        inputs : torch.Tensor
            (..., D)

        Returns
        -------
        torch.Tensor
            (..., G, N) float32, not negative.
        """
        with torch.autocast(inputs.device.type, enabled=False):
            codes, points = self.codebook.codes.float(), self.points(inputs)
            # |p|² − 2 p·c + |c|² in the product itself: no pass over (.., G, N) more.
            points = _beside(points, points.square().sum(-1), 1.0)
            codes = _beside(-2 * codes, 1.0, codes.square().sum(-1))
            return torch.einsum("...gc,gnc->...gn", points, codes).clamp_min(0)

    def points(self, inputs: torch.Tensor) -> torch.Tensor:
        """What is compared with the codes: (..., D) -> (..., G, C) float32."""
        with torch.autocast(inputs.device.type, enabled=False):
            points = torch.einsum("...d,gdc->...gc", inputs.float(), self.projection)
            return normalize(points, dim=-1) if self.codebook.l2_normalize else points

    @torch.no_grad()
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Nearest codes: (..., D) -> (..., G) int64."""
        return self.distances(inputs).argmin(-1)


def _beside(vectors, *columns):
    """Vectors with further coordinates; a number stands for all of them."""
    rest = [vectors.new_ones(vectors.shape[:-1]) * column for column in columns]
    return torch.cat((vectors, torch.stack(rest, -1)), -1)
