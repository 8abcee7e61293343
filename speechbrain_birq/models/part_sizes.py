"""Sizes that the parts of a ``BiRQ`` must have in common."""

from collections.abc import Iterable
from typing import Any

from speechbrain_birq.models.encoders.interface import Encoder
from speechbrain_birq.models.frontend import FrontEnd
from speechbrain_birq.models.labels.fitted_quantizer import FittedQuantizer
from speechbrain_birq.models.labels.label_norm import LabelNorm
from speechbrain_birq.models.labels.label_terms import Reconstruction, UsageEntropy
from speechbrain_birq.models.labels.quantizer import RandomProjectionQuantizer
from speechbrain_birq.models.objectives import PredictionHeads

QUANTIZERS = (RandomProjectionQuantizer, FittedQuantizer)
WITH_INPUT = (*QUANTIZERS, LabelNorm, PredictionHeads)


def check_sizes(
    *,
    frontend: FrontEnd,
    encoder: Encoder,
    anchor_quantizer: Any,
    enhanced_quantizer: Any,
    label_norm: Any,
    heads: Any,
    label_terms: Iterable[Any],
) -> None:
    """Refuse parts whose sizes contradict each other, before any speech is read.

    Quantizers, norms and output layers of one's own, subclasses too, are left alone,
    because their sizes may mean something else.

    Raises
    ------
    ValueError
        Naming both parts and both sizes.
    """
    features = frontend.output_dim, "the frames of the front end"
    width = encoder.output_dim, "the output of the encoder"
    for name, part, (size, source) in (
        ("the anchor quantizer", anchor_quantizer, features),
        ("the enhanced quantizer", enhanced_quantizer, width),
        ("the LabelNorm", label_norm, width),
        ("the output layers", heads, width),
    ):
        if type(part) in WITH_INPUT and part.input_dim != size:
            raise ValueError(
                f"the input size of {name} is {part.input_dim}, the size of {source} "
                f"is {size}"
            )
        if type(part) in QUANTIZERS:
            _check_codes(f"the codebook of {name}", part.codebook.shape[:2], heads)
    for term in label_terms:
        if isinstance(term, (UsageEntropy, Reconstruction)):
            _check_codes(type(term).__name__, term.shape, heads)
        if isinstance(term, Reconstruction):
            term.check(frontend.output_dim)


def _check_codes(name, shape, heads):
    if tuple(shape) != tuple(heads.shape):
        raise ValueError(
            name
            + " has {} codebooks of {} codes, ".format(*shape)
            + "the output layers have {} of {}".format(*heads.shape)
        )
