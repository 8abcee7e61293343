"""Encoders: one interface over SpeechBrain's stacks of layers, exact about padding."""

from speechbrain_birq.models.encoders.chunking import ChunkSampler
from speechbrain_birq.models.encoders.e_branchformer import EBranchformerEncoder
from speechbrain_birq.models.encoders.encoder import SpeechBrainEncoder, check_encoder
from speechbrain_birq.models.encoders.inputs import ConvolutionalInput, LinearInput

__all__ = [
    "ChunkSampler",
    "ConvolutionalInput",
    "EBranchformerEncoder",
    "LinearInput",
    "SpeechBrainEncoder",
    "check_encoder",
]
