"""Draw label sets; the first codebook stands for the others."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from speechbrain_birq.data.pipeline import AudioReader
from speechbrain_birq.diagnostics.raster import draw_raster, visible
from speechbrain_birq.diagnostics.spoken import Truth
from speechbrain_birq.metrics.curve_panels import (
    AGREEMENT,
    INFORMATION,
    both,
    draw_training,
)
from speechbrain_birq.metrics.curves import read_metrics
from speechbrain_birq.metrics.line_labels import name_lines
from speechbrain_birq.metrics.units import joint_counts
from speechbrain_birq.models.birq import BiRQ

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from speechbrain_birq.diagnostics.diagnose import Diagnosis

Sets = Mapping[str, list[torch.Tensor]]

logger = logging.getLogger(__name__)

OVER_TRAINING = (
    both("perplexity of the labels", "perplexity"),
    AGREEMENT,
    INFORMATION,
)


def draw_all(
    run: Path,
    folder: Path,
    diagnosis: "Diagnosis",
    model: BiRQ,
    sets: Sets,
    truth: Truth,
    audio: str,
) -> None:
    """Write the pictures of a diagnosis; none without matplotlib (extra ``demo``).

    Arguments
    ---------
    run : Path
        Run folder whose reports are drawn.
    folder : Path
        Folder of the pictures.
    diagnosis : Diagnosis
    model : BiRQ
    sets : mapping
        name of the label set -> (T, G) int64 of each utterance
    truth : Truth
        What is spoken in the same frames.
    audio : str
        Audio file of the first utterance.
    """
    num_codes, layer = model.heads.shape[1], model.label_layer
    shown = ["anchor", "enhanced" if "enhanced" in sets else f"layer {layer}"]
    shown.append(f"k-means, layer {layer}")
    chosen = {name: sets[name] for name in shown}
    rows = read_metrics(run)
    signal = AudioReader(model.frontend.sample_rate)(audio)[None]
    spectrogram = model.frontend.log_mels(signal)[0]
    try:
        figures = {
            "codes_and_units": draw_heat_map(chosen, truth, diagnosis.unit, num_codes),
            "usage": draw_usage(sets, num_codes),
            "layers": draw_layers(diagnosis, layer),
            "raster": draw_raster(
                spectrogram, chosen, truth, diagnosis.unit, model.frontend
            ),
        }
        if any("anchor_perplexity" in row for row in rows):
            figures["training"] = draw_training(rows, OVER_TRAINING)
    except ImportError:
        logger.warning('no pictures: pip install "speechbrain_birq[demo]"')
        return
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=120)


def draw_heat_map(sets: Sets, truth: Truth, unit: str, num_codes: int) -> "Figure":
    """Draw P(unit | code): a column for each used code, sorted by its likeliest unit.

    Arguments
    ---------
    sets : mapping
        name of the label set -> (T, G) int64 of each utterance
    truth : Truth
        What is spoken in the same frames.
    unit : str
        What the names of ``truth`` are: phone, character or subword.
    num_codes : int
        N
    """
    from matplotlib.figure import Figure

    numbers, names = truth
    spoken = torch.cat(numbers)
    order = torch.bincount(spoken, minlength=len(names)).argsort(descending=True)
    height = max(4, 0.16 * len(names))
    figure = Figure(figsize=(4.6 * len(sets), height + 1), layout="constrained")
    panels = figure.subplots(1, len(sets), sharey=True, squeeze=False)[0]
    for axes, (name, codes) in zip(panels, sets.items(), strict=True):
        first = torch.cat(codes)[:, 0]
        counts = joint_counts(first, spoken, num_codes, len(names))[:, order].double()
        shares = counts[counts.sum(1) > 0]
        shares /= shares.sum(1, keepdim=True)
        # The unit's rank is an integer, so that a share (at most 1) sorts within it.
        key = shares.argmax(1) * 2 - shares.amax(1)
        image = axes.imshow(
            shares[key.argsort()].T.numpy(),
            aspect="auto",
            interpolation="nearest",
            cmap="magma_r",
            vmin=0,
            vmax=1,
        )
        axes.set_title(f"{name}: {len(shares)} used codes", fontsize=10)
        axes.set_xlabel(f"codes, sorted by their most frequent {unit}", fontsize=8)
    shown = [visible(names[index]) for index in order]
    panels[0].set_yticks(range(len(names)), shown, fontsize=7)
    panels[0].set_ylabel(f"{unit}, the most frequent on top")
    figure.colorbar(image, ax=panels, label=f"P({unit} | code)")
    figure.suptitle(f"Which {unit} a code stands for (first codebook)", fontsize=11)
    return figure


def draw_usage(sets: Sets, num_codes: int) -> "Figure":
    """Draw each code's share of the frames, the most frequent code first."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for (name, codes), style in zip(sets.items(), _styles(sets), strict=True):
        counts = torch.bincount(torch.cat(codes)[:, 0], minlength=num_codes)
        counts = counts[counts > 0].sort(descending=True).values
        shares = 100 * counts / counts.sum()
        axes.plot(range(1, len(shares) + 1), shares.numpy(), label=name, **style)
    even = 100 / num_codes
    axes.axhline(even, color="gray", linestyle=":", label="all codes evenly")
    axes.set_yscale("log")
    axes.set_xlim(0, num_codes)
    axes.set_xlabel(f"rank of the code, of {num_codes}")
    axes.set_ylabel("share of the frames, %")
    axes.set_title("How evenly codes are used (first codebook)", fontsize=11)
    axes.legend(fontsize=8, loc="upper right")  # all lines end at one height
    axes.grid(alpha=0.3)
    return figure


def draw_layers(diagnosis: "Diagnosis", label_layer: int) -> "Figure":
    """Draw the PNMI of every layer, beside the labels that need no layer."""
    from matplotlib.figure import Figure

    rows = diagnosis.rows
    layers = [name for name in rows if name.startswith("layer ")]
    places = [int(name.split()[1]) for name in layers]
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(
        places,
        [rows[name]["pnmi"] for name in layers],
        "o-",
        label="layers, by the random projection",
    )
    axes.plot(
        places,
        [rows[name]["chance"] for name in layers],
        ":",
        color="C0",
        label=f"by chance ({diagnosis.unit}s shuffled)",
    )
    for name, color in (("anchor", "C1"), ("k-means, frames", "C2")):
        axes.axhline(rows[name]["pnmi"], color=color, linestyle="--", label=name)
    name = f"k-means, layer {label_layer}"
    axes.plot(label_layer, rows[name]["pnmi"], "s", color="C3", label=name)
    if "enhanced" in rows:
        pnmi = rows["enhanced"]["pnmi"]
        axes.plot(label_layer, pnmi, "x", color="black", markersize=9, label="enhanced")
    axes.set_xticks(places)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("layer (0: input projection)")
    axes.set_ylabel("PNMI, share of the entropy")
    axes.set_title(
        f"What labels say about {diagnosis.unit}s, {diagnosis.frames} frames",
        fontsize=11,
    )
    axes.grid(alpha=0.3)
    figure.draw_without_rendering()  # labels need the size of the axes
    name_lines(axes)
    return figure


def _styles(sets):
    """Return line styles: layers dashed in shades of gray, the others colored."""
    from matplotlib import colormaps

    shades = sum(name.startswith("layer") for name in sets)
    found, layer, other = [], 0, 0
    for name in sets:
        if name.startswith("layer"):
            shade = colormaps["Greys"](0.35 + 0.6 * layer / max(1, shades - 1))
            found.append(dict(color=shade, linestyle="--", linewidth=1))
            layer += 1
        else:
            found.append(dict(color=f"C{other}"))
            other += 1
    return found
