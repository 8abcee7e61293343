"""Use a finished run on new audio: features, transcripts, streams, labels, exports."""

from speechbrain_birq.inference.batches import Outcome
from speechbrain_birq.inference.encoder import Features, SpeechEncoder
from speechbrain_birq.inference.export import (
    FORMATS,
    CharacterTokenizer,
    SentencePieceTokenizer,
    TokenLogProbs,
    UpstreamExpert,
    build_features,
    export_run,
    load_exported,
)
from speechbrain_birq.inference.pretrained import load_labeller
from speechbrain_birq.inference.recogniser import (
    Recogniser,
    StreamingRecogniser,
    Transcript,
)
from speechbrain_birq.inference.relabel import relabel, relabel_run
from speechbrain_birq.inference.speech_features import PretrainedEncoder, SpeechFeatures
from speechbrain_birq.inference.streaming import TextStream

__all__ = [
    "FORMATS",
    "CharacterTokenizer",
    "Features",
    "Outcome",
    "PretrainedEncoder",
    "Recogniser",
    "SentencePieceTokenizer",
    "SpeechEncoder",
    "SpeechFeatures",
    "StreamingRecogniser",
    "TextStream",
    "TokenLogProbs",
    "Transcript",
    "UpstreamExpert",
    "build_features",
    "export_run",
    "load_exported",
    "load_labeller",
    "relabel",
    "relabel_run",
]
