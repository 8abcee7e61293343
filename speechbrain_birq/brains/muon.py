"""Muon: orthogonalized momentum for hidden matrices, AdamW for everything else."""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from speechbrain_birq.config.keys import ABOVE_0, FROM_0, SHARE_BELOW_1
from speechbrain_birq.distributed import shared_out

logger = logging.getLogger(__name__)

Groups = Iterable[torch.Tensor] | Iterable[dict[str, Any]]

# Quintic a x + b x³ + c x⁵ whose slope at 0 is as large as possible; after five rounds
# singular values are between about 0.7 and 1.2 (Jordan et al., 2024).
COEFFICIENTS = 3.4445, -4.7750, 2.0315
ROUNDS = 5
SMALLEST = 1e-7  # norm that a matrix is divided by at least
ADAMS_SIZE = 0.2  # root mean square of an update of AdamW over its rate


class Muon(torch.optim.Optimizer):
    """Muon for the hidden matrices, AdamW for all other parameters.

    A matrix W (A, B) with gradient G and momentum M moves by

        M ← μ M + (1 − μ) G
        O = orthogonalized(μ M + (1 − μ) G)
        W ← (1 − η λ) W − 0.2 √max(A, B) η O

    The factor 0.2 √max(A, B) makes a step as large as one of AdamW (Liu et al., arXiv
    2502.16982), so η and λ mean the same for both parts. A 1x1 convolution is a matrix.

    It is one optimizer for the Brain: rates, clipping, checkpoints, skipped steps and
    ``GradScaler`` treat it as they treat AdamW. Every rank keeps the momentum of all
    matrices, and orthogonalizes its share of them.

    Arguments
    ---------
    params : iterable
        Parameters, or dictionaries of parameters with their own ``lr`` or
        ``weight_decay``.
    hidden : torch.nn.Module
        Module that holds the hidden matrices. If it has ``layers``, as an encoder has,
        only those are taken, without its input. Embeddings and biases in it
        belong to AdamW, and so does all that lies outside, such as output layers.
    lr : float
        η
    weight_decay : float
        λ
    momentum : float
        μ
    matrix_factor : float
        Factor of the rate of the matrices.
    betas : tuple
        Those of AdamW.
    eps : float
        That of AdamW.
    fused : bool
        Whether AdamW is fused, and steps are skipped on the device.

    Raises
    ------
    TypeError
        If ``hidden`` is no module.
    ValueError
        If the momentum is no number in [0, 1), the factor none above 0, another value
        none from 0, or AdamW refuses its values.

    Example
    -------
    >>> layers = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Linear(6, 2))
    >>> optimizer = Muon(layers.parameters(), hidden=layers[0], lr=0.01)
    >>> [(len(g["params"]), g["is_hidden"]) for g in optimizer.param_groups]
    [(3, False), (1, True)]
    >>> layers(torch.randn(3, 4)).sum().backward()
    >>> optimizer.step()
    """

    def __init__(
        self,
        params: Groups,
        *,
        hidden: torch.nn.Module,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
        matrix_factor: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        fused: bool = False,
    ) -> None:
        _check_module(hidden)
        SHARE_BELOW_1.check("Muon", momentum=momentum)
        ABOVE_0.check("Muon", matrix_factor=matrix_factor)
        FROM_0.check("Muon", lr=lr, weight_decay=weight_decay, eps=eps)
        groups = _groups(params, hidden, lr, matrix_factor)
        own = {"weight_decay": weight_decay, "momentum": momentum, "is_hidden": False}
        super().__init__(groups, {"lr": lr, **own})
        # It shares our groups and our state, so that there is one of each.
        self.adamw = torch.optim.AdamW(
            self.param_groups,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            fused=fused,
        )
        # For groups that are added later: AdamW moves them.
        self.defaults = self.adamw.defaults | self.defaults
        # GradScaler then leaves it to the optimizer to skip a step, on the device.
        self._step_supports_amp_scaling = fused

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take a pickled or copied state, which holds groups and momenta only."""
        super().__setstate__(state)
        fused = bool(self.param_groups[0]["fused"])
        self.adamw = torch.optim.AdamW(self.param_groups, fused=fused)
        self._step_supports_amp_scaling = fused

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make a step, or none where ``found_inf`` is 1.

        Arguments
        ---------
        closure : callable, optional
            Computes the loss again.

        Returns
        -------
        object
            The closure's loss, if any.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        scaling = {name: getattr(self, name, None) for name in SCALING}
        others = [group for group in self.param_groups if not group["is_hidden"]]
        # Linked anew in every step, because loading a state replaces both.
        vars(self.adamw).update(scaling, state=self.state, param_groups=others)
        self.adamw.step()
        for group in self.param_groups:
            if group["is_hidden"]:
                for weights in by_shape(group["params"]):
                    self._move(weights, group, **scaling)
        return loss

    def _move(self, weights, group, found_inf, grad_scale):
        """Move matrices of one shape."""
        momenta = [self._momentum(weight) for weight in weights]
        gradients = [as_matrix(weight.grad) for weight in weights]
        if grad_scale is not None:
            gradients = [one / grad_scale for one in gradients]
        rate, decay = group["lr"], group["lr"] * group["weight_decay"]
        if found_inf is not None:
            # In place of a gradient that is not finite, the momentum: it stays as it
            # is, and the rate of 0 multiplies finite numbers.
            skip, made = found_inf.bool(), 1 - found_inf
            gradients = [
                torch.where(skip, *pair)
                for pair in zip(momenta, gradients, strict=True)
            ]
            rate, decay = rate * made, decay * made
        rest = 1 - group["momentum"]
        torch._foreach_lerp_(momenta, gradients, rest)
        updates = torch._foreach_lerp(momenta, gradients, rest)
        matrices = [as_matrix(weight.data) for weight in weights]
        updates = shared_out(updates, orthogonalized).to(matrices[0].dtype)
        size = ADAMS_SIZE * max(matrices[0].shape) ** 0.5
        torch._foreach_mul_(matrices, 1 - decay)
        torch._foreach_sub_(matrices, (updates * (size * rate)).unbind())

    def _momentum(self, weight):
        state = self.state[weight]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        return as_matrix(state["momentum_buffer"])


def _check_module(hidden):
    if not isinstance(hidden, torch.nn.Module):
        raise TypeError(
            f"hidden must be a module, such as !ref <encoder>, got {hidden!r}"
        )


def _groups(params, hidden, lr, matrix_factor):
    """Split groups of parameters into those of Muon and those of AdamW."""
    layers = getattr(hidden, "layers", None)
    inside = layers if isinstance(layers, torch.nn.Module) else hidden
    matrices = {id(weight) for weight in hidden_matrices(inside)}
    groups = [
        part
        for group in as_groups(params)
        for part in split(group, matrices, lr, matrix_factor)
    ]
    if not any(group["is_hidden"] for group in groups):
        logger.warning(
            "Muon: no parameter is a matrix of %s, so AdamW moves all weights; it may "
            "need a lower lr",
            type(hidden).__name__,
        )
    return groups


SCALING = ("found_inf", "grad_scale")  # attributes that GradScaler sets for a step


def as_groups(params: Groups) -> list[dict[str, Any]]:
    """Return parameters in groups, whether they were given in groups or not.

    Example
    -------
    >>> len(as_groups(torch.nn.Linear(2, 3).named_parameters())[0]["params"])
    2
    """
    given: list[Any] = list(params)
    if given and isinstance(given[0], dict):
        return given
    return [{"params": [p[1] if isinstance(p, tuple) else p for p in given]}]


def split(
    group: dict[str, Any], matrices: set[int], lr: float, factor: float
) -> Iterator[dict[str, Any]]:
    """Yield the part of a group that AdamW moves, then the one that Muon moves.

    Arguments
    ---------
    group : dict
        ``params``, and settings that both parts get.
    matrices : set
        ``id`` of each matrix that Muon may move.
    lr : float
        Rate of a group without one.
    factor : float
        Factor of the rate of the matrices.
    """
    params = list(group["params"])
    for is_hidden in (False, True):
        part = [p for p in params if (id(p) in matrices) == is_hidden]
        rate = group.get("lr", lr) * (factor if is_hidden else 1)
        if part:
            yield {**group, "params": part, "lr": rate, "is_hidden": is_hidden}


def hidden_matrices(module: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Return the weights of linear layers and 1x1 convolutions below a module.

    Example
    -------
    >>> convolutions = torch.nn.Conv1d(3, 4, 1), torch.nn.Conv1d(4, 4, 3)
    >>> others = *convolutions, torch.nn.Embedding(5, 4)
    >>> layers = torch.nn.Sequential(torch.nn.Linear(2, 3), *others)
    >>> [tuple(weight.shape) for weight in hidden_matrices(layers)]
    [(3, 2), (4, 3, 1)]
    """
    return [
        weight
        for owner in module.modules()
        if not isinstance(owner, torch.nn.Embedding)
        for name, weight in owner.named_parameters(recurse=False)
        # Attention of Transformer-XL has biases of two dimensions.
        if "bias" not in name and weight.dim() > 1 and min(weight.shape[:2]) > 1
        if as_matrix(weight).dim() == 2 and getattr(owner, "groups", 1) == 1
    ]


def as_matrix(weight: torch.Tensor) -> torch.Tensor:
    """Return a view of a 1x1 convolution's weight as a matrix, others as they are.

    Example
    -------
    >>> [as_matrix(torch.ones(shape)).dim() for shape in ((4, 3, 1, 1), (4, 3, 5))]
    [2, 3]
    """
    if weight[0, 0].numel() == 1:
        return weight.view(weight.shape[:2])
    return weight


def by_shape(weights: Iterable[torch.Tensor]) -> list[list[torch.Tensor]]:
    """Return the weights that have a gradient, those of one shape together."""
    found: dict[torch.Size, list[torch.Tensor]] = {}
    for weight in weights:
        if weight.grad is not None:
            found.setdefault(as_matrix(weight).shape, []).append(weight)
    return list(found.values())


def orthogonalized(matrices: torch.Tensor) -> torch.Tensor:
    """Bring the singular values of matrices close to 1, by Newton-Schulz iterations.

    The products are in bfloat16 on a GPU and in float32 on a CPU.

    Arguments
    ---------
    matrices : torch.Tensor
        (n, A, B)

    Returns
    -------
    torch.Tensor
        (n, A, B), about U Vᵀ of each matrix U S Vᵀ.

    Example
    -------
    >>> values = torch.linalg.svdvals(orthogonalized(torch.randn(2, 6, 4)))
    >>> bool((values > 0.5).all() and (values < 1.3).all())
    True
    """
    if matrices.shape[-2] > matrices.shape[-1]:  # the smaller Gram matrix
        return orthogonalized(matrices.mT).mT
    norms = torch.linalg.matrix_norm(matrices, keepdim=True).clamp_min(SMALLEST)
    dtype = torch.bfloat16 if matrices.is_cuda else matrices.dtype
    states = (matrices / norms).to(dtype)
    first, third, fifth = COEFFICIENTS
    for _ in range(ROUNDS):
        gram = states @ states.mT
        inner = torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth)
        states = torch.baddbmm(states, inner, states, beta=first)
    return states
