"""Labels: quantizers of frozen codes, the selector, LabelNorm, terms of the labels."""

from speechbrain_birq.models.labels.fitted_quantizer import FittedQuantizer
from speechbrain_birq.models.labels.k_means import k_means, nearest, one_each
from speechbrain_birq.models.labels.label_norm import LabelNorm
from speechbrain_birq.models.labels.label_terms import (
    LabelTerm,
    Reconstruction,
    UsageEntropy,
)
from speechbrain_birq.models.labels.quantizer import Codebook, RandomProjectionQuantizer
from speechbrain_birq.models.labels.selector import GumbelSoftmaxSelector

__all__ = [
    "Codebook",
    "FittedQuantizer",
    "GumbelSoftmaxSelector",
    "LabelNorm",
    "LabelTerm",
    "RandomProjectionQuantizer",
    "Reconstruction",
    "UsageEntropy",
    "k_means",
    "nearest",
    "one_each",
]
