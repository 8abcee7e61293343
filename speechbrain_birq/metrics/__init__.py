"""Measure how codes are used and what labels say; compare runs; draw their curves."""

from speechbrain_birq.metrics.codebook import agreement, code_usage, mutual_information
from speechbrain_birq.metrics.curves import plot_training, read_metrics
from speechbrain_birq.metrics.significance import (
    compare_runs,
    difference,
    interval,
    interval_text,
)
from speechbrain_birq.metrics.units import unit_quality

__all__ = [
    "agreement",
    "code_usage",
    "compare_runs",
    "difference",
    "interval",
    "interval_text",
    "mutual_information",
    "plot_training",
    "read_metrics",
    "unit_quality",
]
