"""Write a finished run in the formats that other toolkits load."""

from speechbrain_birq.inference.export.formats import FORMATS, export_run
from speechbrain_birq.inference.export.loading import build_features, load_exported
from speechbrain_birq.inference.export.token_log_probs import TokenLogProbs
from speechbrain_birq.inference.export.tokenizers import (
    CharacterTokenizer,
    SentencePieceTokenizer,
)
from speechbrain_birq.inference.export.upstream import UpstreamExpert

# Folders that were exported earlier name these classes here.
from speechbrain_birq.inference.speech_features import PretrainedEncoder, SpeechFeatures

__all__ = [
    "FORMATS",
    "CharacterTokenizer",
    "PretrainedEncoder",
    "SentencePieceTokenizer",
    "SpeechFeatures",
    "TokenLogProbs",
    "UpstreamExpert",
    "build_features",
    "export_run",
    "load_exported",
]
