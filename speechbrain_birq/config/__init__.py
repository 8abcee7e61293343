"""YAML files: loaded with deltas, and every key checked."""

from speechbrain_birq.config.loader import load_configuration, parse_arguments

__all__ = [
    "load_configuration",
    "parse_arguments",
]
