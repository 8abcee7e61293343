"""Choose layers of an encoder, as NumPy indexes: a number, or a list of numbers."""

import operator
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Literal

import torch

from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference.windows import Encode
from speechbrain_birq.models.encoders.interface import Encoder

# None: the normalized last layer. 0 (input projection) to K: a layer's output as it is.
# "all": layers 0 to K.
Layer = None | int | Literal["all"] | Sequence[int]


def layer_numbers(layer: Layer, num_layers: int) -> list[int] | int | None:
    """Return the numbers of the layers that are asked for.

    Arguments
    ---------
    layer : None, int, "all" or sequence of int
    num_layers : int
        K

    Returns
    -------
    list, int or None
        A list if several layers are asked for.

    Raises
    ------
    BadInput
        If the encoder has no such layer.

    Example
    -------
    >>> layer_numbers("all", 3), layer_numbers([3, 1], 3), layer_numbers(2, 3)
    ([0, 1, 2, 3], [3, 1], 2)
    """
    if layer is None or layer == "all":
        return layer if layer is None else list(range(num_layers + 1))
    if isinstance(layer, str) or not isinstance(layer, Iterable):
        one, several = True, [layer]
    else:
        one, several = False, list(layer)
    numbers = [_number(number) for number in several]
    if not numbers:
        raise BadInput(f"no layer is named: the encoder has 0 to {num_layers}")
    for number in numbers:
        if not 0 <= number <= num_layers:
            raise BadInput(f"no layer {number}: the encoder has 0 to {num_layers}")
    return numbers[0] if one else numbers


def _number(layer) -> int:
    try:
        return operator.index(layer)  # NumPy's integers are numbers, too
    except TypeError as error:
        raise BadInput(f"no layer {layer!r}: give a number, numbers or all") from error


def layer_encoder(encoder: Encoder, layer: Layer) -> Encode:
    """Return a function that encodes up to the layers that are asked for.

    Arguments
    ---------
    encoder : Encoder
    layer : None, int, "all" or sequence of int
        None is the normalized last layer, 0 the input projection. Layers above a
        single number do not run.

    Returns
    -------
    callable
        (B, T, D) frames, (B,) lengths -> (B, T, H), or (B, T, L, H) of L layers.

    Raises
    ------
    BadInput
        If the encoder has no such layer.
    """
    numbers = layer_numbers(layer, encoder.num_layers)
    if numbers is None:
        return encoder
    if isinstance(numbers, int) and numbers > 0:
        return partial(encoder, num_layers=numbers)

    def encode(frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        states = encoder.hidden_states(frames, lengths)
        if isinstance(numbers, int):
            return states[numbers]
        return torch.stack([states[number] for number in numbers], 2)

    return encode
