"""Labels: quantizers of frozen codes, the selector, LabelNorm, terms of the labels."""

from speechbrain_birq.models.labels.fitted_quantizer import FittedQuantizer
from speechbrain_birq.models.labels.k_means import k_means, nearest, one_each
from speechbrain_birq.models.labels.label_norm import LabelNorm
from speechbrain_birq.models.labels.label_terms import (
    LabelContext,
    LabelTerm,
    Reconstruction,
    SpanEntropy,
    UsageEntropy,
)
from speechbrain_birq.models.labels.quantizer import Codebook, RandomProjectionQuantizer
from speechbrain_birq.models.labels.selector import (
    BalancedSelector,
    GumbelSoftmaxSelector,
)

__all__ = [
    "BalancedSelector",
    "Codebook",
    "FittedQuantizer",
    "GumbelSoftmaxSelector",
    "LabelContext",
    "LabelNorm",
    "LabelTerm",
    "RandomProjectionQuantizer",
    "Reconstruction",
    "SpanEntropy",
    "UsageEntropy",
    "k_means",
    "nearest",
    "one_each",
]
