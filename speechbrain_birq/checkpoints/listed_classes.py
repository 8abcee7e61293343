"""The classes that a run folder may build, and the arguments that they may have."""

import re
from collections.abc import Iterable
from importlib import import_module

from speechbrain_birq.checkpoints.moved_names import MOVED

MODELS = "speechbrain_birq.models"

# Class of the room models -> its file; YAML may name it by the room or by the file.
FILES = {
    "BiRQ": "birq",
    "ChunkSampler": "encoders.chunking",
    "Codebook": "labels.quantizer",
    "ConvolutionalInput": "encoders.inputs",
    "FittedQuantizer": "labels.fitted_quantizer",
    "FrontEnd": "frontend",
    "GumbelSoftmaxSelector": "labels.selector",
    "LabelNorm": "labels.label_norm",
    "LinearInput": "encoders.inputs",
    "PredictionHeads": "objectives",
    "RandomProjectionQuantizer": "labels.quantizer",
    "SpeechBrainEncoder": "encoders.encoder",
}

# Argument -> classes that it may be an instance of.
ROLES = {
    "anchor_quantizer": ("RandomProjectionQuantizer", "FittedQuantizer"),
    "chunking": ("ChunkSampler",),
    "codebook": ("Codebook",),
    "encoder": ("SpeechBrainEncoder",),
    "enhanced_quantizer": ("RandomProjectionQuantizer", "FittedQuantizer"),
    "frontend": ("FrontEnd",),
    "heads": ("PredictionHeads",),
    "input_module": ("ConvolutionalInput", "LinearInput"),
    "label_norm": ("LabelNorm",),
    "model": ("BiRQ",),
    "selector": ("GumbelSoftmaxSelector",),
}

# Argument -> smallest and largest number.
RANGES = {
    "attention_window": (1, 2**31),
    "chunk": (1, 2**31),
    "code_dim": (1, 2**14),
    "d_ffn": (1, 2**17),
    "d_model": (1, 2**15),
    "dim": (1, 2**15),
    "hop_length": (1, 200),  # ms
    "input_dim": (1, 2**16),
    "kernel_size": (1, 2**12),
    "label_layer": (1, 128),
    "n_mels": (1, 512),
    "nhead": (1, 2**10),
    "num_codebooks": (1, 2**10),
    "num_codes": (1, 2**20),
    "num_layers": (1, 128),
    "rounds": (0, 10_000),
    "sample_rate": (1000, 192_000),  # Hz
    "seed": (0, 2**63),
    "stack": (1, 64),
    "win_length": (1, 200),  # ms
}
FRACTIONS = ("hop_length", "win_length")  # the others are whole numbers
# Arguments that may be null: no part, or no limit.
NULLABLE = ("attention_window", "chunking", "input_module")

# Layers that a class of a trusted package may have as arguments.
LAYERS = {
    *(
        f"torch.nn.{name}"
        for name in (
            *("CELU", "Dropout", "ELU", "GELU", "Hardtanh", "Identity", "LayerNorm"),
            *("LeakyReLU", "Linear", "Mish", "PReLU", "RMSNorm", "ReLU", "ReLU6"),
            *("SELU", "SiLU", "Sigmoid", "Softplus", "Tanh"),
        )
    ),
    "speechbrain.nnet.activations.Swish",
    "speechbrain.nnet.linear.Linear",
    "speechbrain.nnet.normalization.LayerNorm",
}

# Written name -> today's name.
NAMES = (
    {f"{MODELS}.{name}": f"{MODELS}.{name}" for name in FILES}
    | {f"{MODELS}.{file}.{name}": f"{MODELS}.{name}" for name, file in FILES.items()}
    | {
        f"speechbrain_birq.{old}": f"{MODELS}.{old.rpartition('.')[2]}"
        for old, room in MOVED.items()
        if room == "models" and old.rpartition(".")[2] in FILES
    }
    | {name: name for name in LAYERS}
)


class NotTrusted(ValueError):
    """A class that is neither listed nor in a trusted package."""


def is_trusted(name: str, trust: Iterable[str]) -> bool:
    """Return whether a dotted name is that of one of the packages, or inside one.

    Example
    -------
    >>> is_trusted("my_encoders.LSTMs", ["my_encoders"])
    True
    >>> is_trusted("my_encoders_of_others.LSTMs", ["my_encoders"])
    False
    """
    return any(name == package or name.startswith(f"{package}.") for package in trust)


def is_missing(name: str) -> bool:
    """Return whether a name of this package is none of today's parts of a model.

    Example
    -------
    >>> is_missing("speechbrain_birq.models.BalancedSelector")  # of an earlier version
    True
    >>> is_missing("speechbrain_birq.models.LabelTerm"), is_missing("os.system")
    (False, False)
    """
    own, kind = name.startswith("speechbrain_birq."), name.rpartition(".")[2]
    return own and not hasattr(import_module(MODELS), kind)


def find_class(name: str, trust: Iterable[str] = ()) -> type:
    """Import a class that is listed or belongs to a trusted package.

    Arguments
    ---------
    name : str
        Module and class.
    trust : iterable
        Names of packages.

    Raises
    ------
    NotTrusted
        If the name is neither listed nor in a trusted package.
    ValueError
        If a name of a trusted package is no class that was defined in that package.

    Example
    -------
    >>> find_class("speechbrain_birq.model.BiRQ").__name__  # its name in an old run
    'BiRQ'
    >>> find_class("os.system")
    Traceback (most recent call last):
    speechbrain_birq.checkpoints.listed_classes.NotTrusted: os.system
    """
    module, _, kind = NAMES.get(name, name).rpartition(".")
    if name in NAMES:
        return getattr(import_module(module), kind)
    if not re.fullmatch(r"([A-Za-z]\w*\.)+[A-Za-z]\w*", name) or not is_trusted(
        module, trust
    ):
        raise NotTrusted(name[:100])
    try:
        found = getattr(import_module(module), kind, None)
    except ImportError as error:
        raise ValueError(f"cannot import {module}: {error}") from error
    # A module imports others: my_encoders.subprocess, my_encoders.Popen.
    if not isinstance(found, type) or not is_trusted(found.__module__, trust):
        raise ValueError(f"{name[:100]} is no class of a trusted package")
    return found
