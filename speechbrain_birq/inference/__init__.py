"""Use a finished run on new audio: features, transcripts, streams, labels, exports."""

from speechbrain_birq.inference.batches import Outcome
from speechbrain_birq.inference.encoder import Features, SpeechEncoder
from speechbrain_birq.inference.export import (
    PretrainedEncoder,
    SpeechFeatures,
    export_run,
)
from speechbrain_birq.inference.pretrained import load_labeller
from speechbrain_birq.inference.recogniser import (
    Recogniser,
    StreamingRecogniser,
    Transcript,
)
from speechbrain_birq.inference.relabel import relabel, relabel_run
from speechbrain_birq.inference.streaming import TextStream

__all__ = [
    "Features",
    "Outcome",
    "PretrainedEncoder",
    "Recogniser",
    "SpeechEncoder",
    "SpeechFeatures",
    "StreamingRecogniser",
    "TextStream",
    "Transcript",
    "export_run",
    "load_labeller",
    "relabel",
    "relabel_run",
]
