"""Load a folder that ``birq export`` has written, without running code of it."""

from collections.abc import Iterable
from pathlib import Path

from speechbrain_birq.checkpoints.plain_files import corruption_named, read_json
from speechbrain_birq.checkpoints.published import load_safetensors
from speechbrain_birq.checkpoints.run_folder import build_architecture, load_state
from speechbrain_birq.inference.speech_features import SpeechFeatures

CONFIG, WEIGHTS = "config.json", "model.safetensors"
EXPORT_AGAIN = "export the run again"
PREFIXES = ("birq.", "features.")  # the first is that of a model with an output layer


def build_features(architecture: str, trust: Iterable[str] = ()) -> SpeechFeatures:
    """Build front end and encoder, without weights, from the text in a config.

    Raises
    ------
    BadInput
        If it describes anything but listed classes, or those of trusted packages.
    """
    return SpeechFeatures(**build_architecture(architecture, CONFIG, trust))


def load_exported(folder: str | Path, trust: Iterable[str] = ()) -> SpeechFeatures:
    """Load front end and encoder from ``config.json`` and ``model.safetensors``.

    Arguments
    ---------
    folder : str or Path
        What ``birq export`` has written for transformers or s3prl.
    trust : iterable
        Packages whose classes the folder may build.

    Returns
    -------
    SpeechFeatures
        In evaluation mode.

    Raises
    ------
    BadInput
        If a file is missing or corrupt, or names a class that is not trusted.
    """
    folder = Path(folder)
    config = read_json(folder / CONFIG, EXPORT_AGAIN)
    with corruption_named(folder / CONFIG, EXPORT_AGAIN):
        architecture = config["architecture"]
        if not isinstance(architecture, str):
            raise ValueError("architecture is no text")
    features = build_features(architecture, trust)
    weights = load_safetensors(folder / WEIGHTS, EXPORT_AGAIN)
    first, second = PREFIXES
    names = {key: key.removeprefix(first).removeprefix(second) for key in weights}
    parts = ("frontend.", "encoder.")
    state = {n: weights[key] for key, n in names.items() if n.startswith(parts)}
    load_state(features, state, folder, "encoder")
    return features.eval()
