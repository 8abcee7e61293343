"""BiRQ and BEST-RQ: self-supervised speech pretraining in SpeechBrain."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speechbrain_birq.inference import (
        Recogniser,
        SpeechEncoder,
        StreamingRecogniser,
    )
    from speechbrain_birq.models import BiRQ

__version__ = "0.1.0"
__all__ = ["BiRQ", "Recogniser", "SpeechEncoder", "StreamingRecogniser"]


def __getattr__(name: str):
    """Import a public name when it is first used: `birq --help` needs no torch.

    Names of the layout before the rooms, which stored runs hold, are found here too.
    """
    if name in __all__:
        room = "models" if name == "BiRQ" else "inference"
        return getattr(import_module(f"{__name__}.{room}"), name)
    from speechbrain_birq.checkpoints.moved_names import old_module

    return old_module(name)
