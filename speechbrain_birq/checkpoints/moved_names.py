"""Names that stored runs have for classes: where these were before the rooms."""

from importlib import import_module
from types import SimpleNamespace

# old module and class, both without the package's name -> room
MOVED = {
    "asr.CTCModel": "models",
    "asr.SpecAugment": "models",
    "chunking.ChunkSampler": "models",
    "ebranchformer.EBranchformerEncoder": "models",
    "encoder.SpeechBrainEncoder": "models",
    "export.PretrainedEncoder": "inference",
    "export.SpeechFeatures": "inference",
    "fitting.FittedQuantizer": "models",
    "frontend.FrontEnd": "models",
    "inputs.ConvolutionalInput": "models",
    "inputs.LinearInput": "models",
    "label_fitting.LabelFitting": "brains",
    "masking.SpanMasking": "models",
    "model.BiRQ": "models",
    "normalization.LabelNorm": "models",
    "objectives.PredictionHeads": "models",
    "probe.ProbeModel": "models",
    "quantizer.Codebook": "models",
    "quantizer.RandomProjectionQuantizer": "models",
    "schedules.Ramp": "brains",
    "schedules.WarmupDecay": "brains",
    "schedules.WarmupHoldAnneal": "brains",
    "selection.GumbelSoftmaxSelector": "models",
}


def old_module(name: str) -> SimpleNamespace:
    """The classes that a module of the old layout had.

    Arguments
    ---------
    name : str
        The module's, without the package's.

    Raises
    ------
    AttributeError
        If there was no such module.

    Example
    -------
    >>> from speechbrain_birq.models import FrontEnd
    >>> old_module("frontend").FrontEnd is FrontEnd
    True
    """
    classes = {}
    for old, room in MOVED.items():
        module, _, kind = old.rpartition(".")
        if module == name:
            classes[kind] = getattr(import_module(f"speechbrain_birq.{room}"), kind)
    if not classes:
        raise AttributeError(f"module 'speechbrain_birq' has no attribute {name!r}")
    return SimpleNamespace(**classes)
