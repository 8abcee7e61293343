"""Use a finished run on new audio: features, transcripts, streams, labels, exports."""

from speechbrain_birq.inference.export import (
    PretrainedEncoder,
    SpeechFeatures,
    export_run,
)
from speechbrain_birq.inference.pretrained import load_labeller
from speechbrain_birq.inference.recogniser import (
    Recogniser,
    SpeechEncoder,
    StreamingRecogniser,
)
from speechbrain_birq.inference.relabel import relabel, relabel_run
from speechbrain_birq.inference.streaming import TextStream

__all__ = [
    "PretrainedEncoder",
    "Recogniser",
    "SpeechEncoder",
    "SpeechFeatures",
    "StreamingRecogniser",
    "TextStream",
    "export_run",
    "load_labeller",
    "relabel",
    "relabel_run",
]
