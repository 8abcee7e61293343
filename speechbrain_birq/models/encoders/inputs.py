"""From the front end to the first layer: a projection, or convolutions over frames."""

import torch
from speechbrain.lobes.models.convolution import ConvolutionFrontEnd
from torch.nn.functional import conv2d, pad


class LinearInput(torch.nn.Module):
    """A linear projection of the stacked frames.

    Arguments
    ---------
    input_dim : int
        D
    d_model : int
        H

    Example
    -------
    >>> valid = torch.ones(1, 3, dtype=torch.bool)
    >>> LinearInput(input_dim=8, d_model=4)(torch.randn(1, 3, 8), valid).shape
    torch.Size([1, 3, 4])
    """

    def __init__(self, *, input_dim: int, d_model: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(input_dim, d_model)

    def forward(self, frames: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Project frames (B, T, D) to (B, T, H); ``valid`` is (B, T) bool."""
        return self.linear(frames)


class ConvolutionalInput(torch.nn.Module):
    """Two 3 x 3 convolutions of stride 2 over the unstacked frames: four become one.

    The four frames that the front end stacked (``stack: 4``) are separated again, so
    masks and labels stay on one time axis: masking a stacked frame masks all four.

    Arguments
    ---------
    input_dim : int
        D = 4 x number of mel channels.
    d_model : int
        H
    channels : tuple
        Output channels of the two convolutions.

    Raises
    ------
    ValueError
        If four frames do not make up ``input_dim``.

    Example
    -------
    >>> conv = ConvolutionalInput(input_dim=4 * 80, d_model=32)
    >>> conv(torch.randn(2, 7, 320), torch.ones(2, 7, dtype=torch.bool)).shape
    torch.Size([2, 7, 32])
    """

    STRIDE = 4

    def __init__(
        self, *, input_dim: int, d_model: int, channels: tuple[int, int] = (64, 32)
    ) -> None:
        super().__init__()
        if input_dim % (4 * self.STRIDE):
            raise ValueError(
                f"the convolutional input needs stack: 4 and a number of mel channels "
                f"that 4 divides; {input_dim} features a frame do not fit"
            )
        self.n_mels = input_dim // self.STRIDE
        self.convolutions = ConvolutionFrontEnd(
            (None, None, self.n_mels),
            num_blocks=2,
            num_layers_per_block=1,
            out_channels=list(channels),
            kernel_sizes=[3, 3],
            strides=[2, 2],
            residuals=[False, False],
            # With stride 2 over groups of four frames a kernel of 3 never reaches an
            # utterance's end, so no valid step sees reflected frames or padding.
            dropout=0.0,
        )
        self.linear = torch.nn.Linear(channels[-1] * self.n_mels // 4, d_model)

    def forward(self, frames: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Project frames (B, T, D) to (B, T, H); ``valid`` is (B, T) bool."""
        states = frames.unflatten(2, (self.STRIDE, self.n_mels)).flatten(1, 2)
        states = states.unsqueeze(3)  # (B, frames, n_mels, channels)
        for block in self.convolutions.values():
            states = _convolved(states, block.convs)
        return self.linear(states.flatten(2))


def _convolved(states, block):
    """Compute SpeechBrain's block without its copies to and from channels first.

    The copies took a fifth of a small model's step on a CPU.
    """
    conv = block["conv_0"].conv
    states = pad(states.permute(0, 3, 1, 2), (1, 1, 1, 1), mode="reflect")
    states = states.contiguous(memory_format=torch.channels_last)
    weight = conv.weight.transpose(2, 3).contiguous(memory_format=torch.channels_last)
    states = conv2d(states, weight, conv.bias, stride=2).permute(0, 2, 3, 1)
    return block["act_0"](block["norm_0"](states))
