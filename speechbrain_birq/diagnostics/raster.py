"""Draw the first seconds of an utterance: spectrogram, what is spoken, and labels."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from speechbrain_birq.diagnostics.spoken import Truth
from speechbrain_birq.metrics.units import joint_counts
from speechbrain_birq.models.frontend import FrontEnd

if TYPE_CHECKING:  # matplotlib belongs to the extra demo
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Color = tuple[float, ...]

SHOWN_SECONDS = 3.0
SILENCE = 0  # its number in a Truth
GREY: Color = (0.9, 0.9, 0.9, 1.0)
NARROW = 0.035  # a box of fewer seconds has no room for a name


def draw_raster(
    spectrogram: torch.Tensor,
    sets: Mapping[str, list[torch.Tensor]],
    truth: Truth,
    unit: str,
    frontend: FrontEnd,
) -> "Figure":
    """Draw a box for each run of a code, named and colored by the code's majority unit.

    Where the labels follow the speech, their colors are those of the track above them.

    Arguments
    ---------
    spectrogram : torch.Tensor
        (T * stack, D) log-mels of the first utterance.
    sets : mapping
        name of the label set -> (T, G) int64 of each utterance; the first codebook is
        drawn.
    truth : Truth
        What is spoken in the same frames.
    unit : str
        What the names of ``truth`` are: phone, character or subword.
    frontend : FrontEnd
        Its frames are those of the labels.
    """
    from matplotlib.figure import Figure

    frame_seconds = frontend.frame_ms / 1000
    frames = min(len(truth.numbers[0]), round(SHOWN_SECONDS / frame_seconds))
    spoken = torch.cat(truth.numbers)
    tracks, codes = {unit: truth.numbers[0][:frames]}, {unit: truth.numbers[0][:frames]}
    for name, labels in sets.items():
        units = majority_units(torch.cat(labels)[:, 0], spoken, len(truth.names))
        right = (units[torch.cat(labels)[:, 0]] == spoken).double().mean()
        row = f"{name}\n{right:.0%} right"
        codes[row] = labels[0][:frames, 0]
        tracks[row] = units[codes[row]]
    colors = unit_colors(torch.cat(list(tracks.values())))
    figure = Figure(figsize=(13, 2.6 + 0.62 * len(tracks)), layout="constrained")
    heights = [3.5, *[1] * len(tracks)]
    upper, *lower = figure.subplots(
        len(heights), 1, sharex=True, gridspec_kw={"height_ratios": heights}
    )
    mels = spectrogram[: frames * frontend.stack]
    extent = (0, frames * frame_seconds, 0, mels.shape[1])
    upper.imshow(
        mels.T.numpy(), aspect="auto", origin="lower", extent=extent, cmap="magma"
    )
    upper.set_ylabel("mel channel")
    upper.set_title(
        f"A code has the name and the color of the {unit} that it most often stands "
        f"for (right: share of all frames where that {unit} is spoken)",
        fontsize=11,
        loc="left",
    )
    for axes, name in zip(lower, tracks, strict=True):
        boxes = runs(torch.stack((codes[name], tracks[name]), 1))
        _draw_boxes(axes, boxes, colors, truth.names, frame_seconds)
        axes.tick_params(bottom=axes is lower[-1])
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    lower[-1].set_xlabel("time, s")
    return figure


def majority_units(
    codes: torch.Tensor, spoken: torch.Tensor, num_units: int
) -> torch.Tensor:
    """Return the unit that each code most often stands for: (N,).

    Example
    -------
    >>> codes, spoken = torch.tensor([0, 0, 0, 1]), torch.tensor([2, 2, 1, 1])
    >>> majority_units(codes, spoken, num_units=3)
    tensor([2, 1])
    """
    num_codes = int(codes.max()) + 1
    return joint_counts(codes, spoken, num_codes, num_units).argmax(1)


def unit_colors(shown: torch.Tensor) -> dict[int, Color]:
    """Give the most frequent units the colors that differ most; silence is gray."""
    from matplotlib import colormaps

    numbers, counts = shown.unique(return_counts=True)
    order = numbers[counts.argsort(descending=True, stable=True)].tolist()
    strong = [colormaps["tab10"](index) for index in range(10) if index != 7]  # no gray
    light = [colormaps["Set3"](index) for index in range(12) if index != 8]
    dark = [colormaps["Dark2"](index) for index in range(7)]
    palette = [*strong, *light, *dark]
    units = [number for number in order if number != SILENCE]
    colors = {n: palette[place % len(palette)] for place, n in enumerate(units)}
    return colors | {SILENCE: GREY}


def runs(track: torch.Tensor) -> list[tuple[int, int, int]]:
    """Return (first frame, frame after the last, unit) of each run of a code.

    Arguments
    ---------
    track : torch.Tensor
        (T, 2) code and unit of each frame.

    Example
    -------
    >>> runs(torch.tensor([[7, 1], [7, 1], [8, 1], [9, 2]]))
    [(0, 2, 1), (2, 3, 1), (3, 4, 2)]
    """
    found, lengths = torch.unique_consecutive(track, dim=0, return_counts=True)
    ends = lengths.cumsum(0)
    begins = ends - lengths
    units = found[:, 1].tolist()
    return list(zip(begins.tolist(), ends.tolist(), units, strict=True))


def visible(name: str) -> str:
    """Return the name of a unit with a sign for the space between two words."""
    return {" ": "\u2423"}.get(name, name)


def _draw_boxes(axes: "Axes", boxes, colors, names, frame_seconds):
    for start, end, unit in boxes:
        begin, width = start * frame_seconds, (end - start) * frame_seconds
        color = colors[unit]
        axes.axvspan(begin, begin + width, color=color, linewidth=0)
        axes.axvline(begin + width, color="white", linewidth=1.2)
        bright = 0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2] > 0.5
        if width >= NARROW and unit != SILENCE:
            axes.text(
                begin + width / 2,
                0.5,
                visible(names[unit]),
                ha="center",
                va="center",
                fontsize=8,
                color="black" if bright else "white",
            )
    axes.set_yticks([])
    axes.set_ylim(0, 1)
    for spine in axes.spines.values():
        spine.set_visible(False)
