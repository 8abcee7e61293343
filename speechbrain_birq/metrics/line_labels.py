"""Names of lines beside their ends, in place of a legend."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy

if TYPE_CHECKING:  # matplotlib belongs to the extra demo
    from matplotlib.axes import Axes

POINTS = 8.0  # size of the letters


def name_lines(axes: "Axes") -> None:
    """Write the label of each line to the right of the axes, at the line's height.

    Labels that would overlap are moved apart. A line that is alone needs none, and
    lines whose label begins with "_" have none, as in legends. The figure must have its
    layout already: call its ``draw_without_rendering``.

    Example
    -------
    >>> from matplotlib.figure import Figure
    >>> axes = Figure(figsize=(4, 3)).subplots()
    >>> _ = axes.plot([0, 1], [1, 2], label="G"), axes.plot([0, 1], [4, 2], label="F")
    >>> name_lines(axes)
    >>> [text.get_text() for text in axes.texts]
    ['G', 'F']
    """
    lines = [line for line in axes.get_lines() if _is_named(line)]
    if len(lines) < 2:
        return
    ends = [float(numpy.asarray(line.get_ydata())[-1]) for line in lines]
    to_axes = axes.transData + axes.transAxes.inverted()
    axes.autoscale_view()
    heights = [float(to_axes.transform((axes.get_xlim()[0], end))[1]) for end in ends]
    box = axes.get_window_extent()
    gap = 1.3 * POINTS * axes.figure.dpi / 72 / box.height
    for line, height in zip(lines, moved_apart(heights, gap), strict=True):
        axes.annotate(
            str(line.get_label()),
            xy=(1, height),
            xycoords="axes fraction",
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=POINTS,
            color=line.get_color(),
        )


def _is_named(line):
    return not str(line.get_label()).startswith("_") and len(line.get_ydata())


def moved_apart(heights: Sequence[float], gap: float) -> list[float]:
    """Move heights as little as possible so that neighbors are ``gap`` apart.

    Groups that overlap are spread around their mean.

    Example
    -------
    >>> moved_apart([0.5, 0.9, 0.5], gap=0.2)
    [0.4, 0.9, 0.6]
    """
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    groups: list[list[float]] = []  # [mean of the wanted heights, members]
    for index in order:
        groups.append([heights[index], 1])
        while len(groups) > 1 and _overlap(groups[-2], groups[-1], gap):
            (mean, count), (other, more) = groups[-2:]
            groups[-2:] = [
                [(mean * count + other * more) / (count + more), count + more]
            ]
    places = [
        mean + gap * (member - (count - 1) / 2)
        for mean, count in groups
        for member in range(int(count))
    ]
    return [place for _, place in sorted(zip(order, places, strict=True))]


def _overlap(lower, upper, gap):
    (mean, count), (other, more) = lower, upper
    return other - mean < gap * (count + more) / 2 - 1e-9
