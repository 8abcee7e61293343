"""Names that stored runs have for classes: where these were before the rooms."""

from importlib import import_module
from types import SimpleNamespace

# old module and class, both without the package's name -> room
MOVED = {
    "asr.CTCModel": "models",
    "asr.SpecAugment": "models",
    "brains.runlog.RunLog": "brains",
    "chunking.ChunkSampler": "models",
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
    """Return the classes that a module of the old layout had.

    HyperPyYAML looks a class up attribute by attribute, so the ``__getattr__`` of this
    package and of ``brains`` end here.

    Arguments
    ---------
    name : str
        The module's name below the package, such as ``encoder``.

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
        raise AttributeError(f"package 'speechbrain_birq' has no attribute {name!r}")
    return SimpleNamespace(**classes)
