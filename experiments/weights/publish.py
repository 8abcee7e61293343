"""Make published weights of a finished pretraining: half precision, card, no paths.

python experiments/weights/publish.py RUN weights/birq_tiny
python experiments/weights/publish.py weights/birq_tiny    # only its card, anew
"""

import argparse
import json
import re
import runpy
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from speechbrain_birq.checkpoints import files
from speechbrain_birq.checkpoints.published import WEIGHTS
from speechbrain_birq.checkpoints.run_folder import best_checkpoint, read_stored

CARD = Path(__file__).with_name("card.md")
FINETUNED = Path(__file__).with_name("finetuned.py")
# The output layers serve pretraining alone, and are a quarter of the weights.
LEFT_OUT = "heads."
YAML = "birq_tiny"  # of both; BEST-RQ is w1 = 0
OPTIONS = (
    "enhanced_weight_value",
    "total_steps",
    "warmup_steps",
    "enhanced_ramp_steps",
    "number_of_epochs",
)
HALVED = "encoder."  # the rest is small, and codes stay as they were


def publish(run: Path, folder: Path) -> None:
    """Write weights, description, figures and card of a run into a new folder.

    Arguments
    ---------
    run : Path
        Folder of a finished pretraining.
    folder : Path
        Where the weights go; its name is that of the weights.
    """
    with files.new_folder(folder) as partial:
        checkpoint = best_checkpoint(run)
        weights = files.load_tensors(checkpoint / "model.ckpt")
        save_file(published(weights), partial / WEIGHTS)
        (partial / WEIGHTS).chmod(0o644)  # safetensors lets nobody else read it
        for path in (
            run / "architecture.yaml",
            run / "curves.png",
            checkpoint / "CKPT.yaml",  # the step, for the record of who starts here
        ):
            shutil.copyfile(path, partial / path.name)
        settings = (run / "hyperparams.yaml").read_text(encoding="utf-8")
        files.write(partial / "hyperparams.yaml", without_paths(settings, folder.name))
        results = json.loads((run / "results.json").read_text(encoding="utf-8"))
        kept = {key: results[key] for key in ("steps", "valid")}
        files.write(partial / "results.json", json.dumps(kept, indent=2) + "\n")
        files.write(partial / "README.md", card(partial, folder.name))


def published(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Leave the output layers out and round the encoder to half precision."""
    # Copies, because the two quantizers share their codes and a file cannot.
    return {
        name: value.half() if name.startswith(HALVED) else value.clone()
        for name, value in weights.items()
        if not name.startswith(LEFT_OUT)
    }


def without_paths(text: str, name: str) -> str:
    """Replace the folders of a run's ``hyperparams.yaml``.

    Example
    -------
    >>> print(without_paths("data_folder: /x/y # splits\\noutput_folder: /z", "tiny"))
    data_folder: !PLACEHOLDER # splits
    output_folder: results/tiny
    """
    text = re.sub(r"(?m)^data_folder: \S+", "data_folder: !PLACEHOLDER", text)
    return re.sub(r"(?m)^output_folder: \S+", f"output_folder: results/{name}", text)


def card(folder: Path, name: str) -> str:
    """Fill the card of published weights.

    Its figures are those of the last validation, and of a fine-tuning if one is kept.
    """
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    settings = read_stored(folder / "hyperparams.yaml").scalars()
    valid = results["valid"]
    rows = [
        f"| loss on anchor labels, G (a uniform guess: 6.24) | {valid['G']:.2f} |",
        f"| accuracy on masked anchor labels | {valid['anchor_accuracy']:.3f} |",
        f"| anchor codes used, perplexity | {_codes(valid, 'anchor')} |",
    ]
    if "F" in valid:
        accuracy = valid["enhanced_accuracy"]
        rows += [
            f"| loss on enhanced labels, F | {valid['F']:.2f} |",
            f"| accuracy on masked enhanced labels | {accuracy:.3f} |",
            f"| enhanced codes used, perplexity | {_codes(valid, 'enhanced')} |",
        ]
    method = "BiRQ" if "F" in valid else "BEST-RQ"
    text = CARD.read_text(encoding="utf-8")
    options = (f"--{key} {settings[key]}" for key in OPTIONS)
    return text.format(
        name=name,
        method=method,
        yaml=YAML,
        steps=f"{results['steps']:,}",
        seconds=settings["batch_seconds"],
        options=" ".join(options),
        figures="\n".join(rows),
        finetuned=runpy.run_path(str(FINETUNED))["section"](name),
    )


def _codes(valid, kind):
    return f"{valid[f'{kind}_used_codes']:.0f}, {valid[f'{kind}_perplexity']:.0f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    if arguments.run is None:
        text = card(arguments.folder, arguments.folder.name)
        files.write(arguments.folder / "README.md", text)
    else:
        publish(arguments.run, arguments.folder)
