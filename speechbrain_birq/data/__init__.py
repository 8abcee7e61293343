"""Corpora to manifests and shards, manifests and shards to batches."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speechbrain_birq.data.loaders import make_loader
    from speechbrain_birq.data.manifest import (
        Utterance,
        read_manifest,
        write_manifest,
    )
    from speechbrain_birq.data.pipeline import AudioReader, MaskItem, make_dataset
    from speechbrain_birq.data.stored_labels import StoredLabels

__all__ = [
    "AudioReader",
    "MaskItem",
    "StoredLabels",
    "Utterance",
    "make_dataset",
    "make_loader",
    "read_manifest",
    "write_manifest",
]


def __getattr__(name: str):
    """Import a public name when it is first used.

    The processes that speak for minispeech import this package, one a speaker, and
    torch would take most of their time and memory.
    """
    if name in __all__:
        for module in ("loaders", "manifest", "pipeline", "stored_labels"):
            found = import_module(f"{__name__}.{module}")
            if getattr(found, name, None) is not None:
                return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
