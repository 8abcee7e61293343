"""Measure the labels and layers of a finished run; nothing is trained."""

from speechbrain_birq.diagnostics.diagnose import diagnose_run
from speechbrain_birq.diagnostics.label_sets import LabelSets
from speechbrain_birq.diagnostics.lm_weights import tune_weights
from speechbrain_birq.diagnostics.phones import accuracy_by_layer

__all__ = [
    "LabelSets",
    "accuracy_by_layer",
    "diagnose_run",
    "tune_weights",
]
