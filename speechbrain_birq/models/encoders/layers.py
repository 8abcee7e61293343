"""SpeechBrain's stacks of layers: the kinds, and the sizes that each can have."""

from typing import Any

import torch
from speechbrain.lobes.models.transformer.Branchformer import BranchformerEncoder
from speechbrain.lobes.models.transformer.Conformer import ConformerEncoder
from speechbrain.lobes.models.transformer.Transformer import TransformerEncoder
from speechbrain.nnet.attention import RoPEMHA

from speechbrain_birq.config.keys import COUNT
from speechbrain_birq.models.encoders.block_conformer import BlockConformerEncoder
from speechbrain_birq.models.encoders.e_branchformer import EBranchformerEncoder
from speechbrain_birq.models.encoders.windowed_attention import within_window

# The first one is the kind's own.
ATTENTION = {
    "conformer": ("RoPEMHA", "RelPosMHAXL", "regularMHA"),
    "branchformer": ("RoPEMHA", "RelPosMHAXL", "regularMHA"),
    "e_branchformer": ("RoPEMHA", "RelPosMHAXL"),
    "transformer": ("RoPEMHA", "RelPosMHAXL", "regularMHA"),
    "block_conformer": ("ShawMHA",),
}


WINDOWED = ("RoPEMHA", "ShawMHA")


def build_layers(
    kind: str,
    attention_type: str,
    *,
    d_ffn: int,
    kernel_size: int,
    attention_window: int | None = None,
    **sizes: Any,
) -> tuple[torch.nn.ModuleList, torch.nn.Module]:
    """Build the layers and the final normalization of an encoder.

    Arguments
    ---------
    kind : str
        A key of ``ATTENTION``.
    attention_type : str
        One of the kind's values in ``ATTENTION``.
    d_ffn, kernel_size : int
        As for ``SpeechBrainEncoder``.
    attention_window : int, optional
        As for ``SpeechBrainEncoder``.
    **sizes
        ``num_layers``, ``d_model``, ``nhead`` and ``dropout``.

    Returns
    -------
    layers : torch.nn.ModuleList
        K layers.
    norm : torch.nn.Module
        Follows the last layer.

    Raises
    ------
    ValueError
        If kind and attention do not go together, or a size does not fit.

    Example
    -------
    >>> sizes = dict(num_layers=2, d_model=8, nhead=2, d_ffn=16, dropout=0.1)
    >>> layers, norm = build_layers("conformer", "RoPEMHA", kernel_size=3, **sizes)
    >>> len(layers), type(norm).__name__
    (2, 'LayerNorm')
    """
    _check_kind(kind, attention_type)
    _check_sizes(d_ffn, kernel_size=kernel_size, **sizes)
    _check_halves(kind, attention_type, sizes["d_model"] // sizes["nhead"], d_ffn)
    _check_window(attention_type, attention_window)
    if kind == "block_conformer":
        blocks = BlockConformerEncoder(
            d_ffn=d_ffn, kernel_size=kernel_size, block=attention_window, **sizes
        )
        return blocks.layers, blocks.norm
    sizes["attention_type"] = attention_type
    if kind == "conformer":
        stack = ConformerEncoder(d_ffn=d_ffn, kernel_size=kernel_size, **sizes)
    elif kind == "branchformer":
        stack = _branchformer(attention_type, d_ffn, kernel_size, sizes)
    elif kind == "e_branchformer":
        stack = EBranchformerEncoder(d_ffn=d_ffn, kernel_size=kernel_size, **sizes)
    else:
        stack = TransformerEncoder(d_ffn=d_ffn, normalize_before=True, **sizes)
    if attention_window is not None:
        name = "self_att" if kind == "transformer" else "mha_layer"
        for layer in stack.layers:
            attention = within_window(getattr(layer, name), attention_window)
            setattr(layer, name, attention)
    return stack.layers, stack.norm


def default_attention(kind: str) -> str:
    """Return the attention that a kind of encoder has if none is named.

    Raises
    ------
    ValueError
        If there is no such kind.

    Example
    -------
    >>> default_attention("conformer")
    'RoPEMHA'
    """
    if kind not in ATTENTION:
        raise ValueError(f"encoder kind {kind!r} is none of {', '.join(ATTENTION)}")
    return ATTENTION[kind][0]


def _branchformer(attention_type, d_ffn, kernel_size, sizes):
    """SpeechBrain's Branchformer, which has no rotary attention of its own."""
    rotary = attention_type == "RoPEMHA"
    built = sizes | {"attention_type": "regularMHA" if rotary else attention_type}
    encoder = BranchformerEncoder(
        csgu_linear_units=d_ffn, kernel_size=kernel_size, **built
    )
    if rotary:
        for layer in encoder.layers:
            layer.mha_layer = RoPEMHA(
                sizes["d_model"], sizes["nhead"], sizes["dropout"]
            )
    return encoder


def _check_kind(kind, attention_type):
    default_attention(kind)
    if attention_type not in ATTENTION[kind]:
        raise ValueError(
            f"attention_type {attention_type!r} does not go with a {kind}: "
            f"take one of {', '.join(ATTENTION[kind])}"
        )


def _check_sizes(d_ffn, *, num_layers, d_model, nhead, kernel_size, dropout):
    sizes = dict(num_layers=num_layers, d_model=d_model, nhead=nhead, d_ffn=d_ffn)
    COUNT.check("the encoder", **sizes, kernel_size=kernel_size)
    if d_model % nhead:
        raise ValueError(f"d_model {d_model} is not a multiple of nhead {nhead}")
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd, got {kernel_size}")


def _check_window(attention_type, attention_window):
    if attention_window is not None and attention_type not in WINDOWED:
        raise ValueError(
            f"attention_window needs attention_type {' or '.join(WINDOWED)}, not "
            f"{attention_type}"
        )


def _check_halves(kind, attention_type, head_dim, d_ffn):
    if attention_type == "RoPEMHA" and head_dim % 2:
        raise ValueError(
            f"RoPEMHA turns pairs of channels: d_model / nhead must be even, got "
            f"{head_dim}"
        )
    if "branchformer" in kind and d_ffn % 2:
        raise ValueError(
            f"one half of d_ffn gates the other in a {kind}: it must be even, got "
            f"{d_ffn}"
        )
