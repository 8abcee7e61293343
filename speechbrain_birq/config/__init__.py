"""YAML files: loaded with deltas, and every key checked."""

from speechbrain_birq.config.command_line import parse_arguments
from speechbrain_birq.config.deltas import flatten
from speechbrain_birq.config.loader import build, configure, load_configuration

__all__ = [
    "build",
    "configure",
    "flatten",
    "load_configuration",
    "parse_arguments",
]
