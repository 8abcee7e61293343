"""Encoders: one interface over SpeechBrain's stacks of layers, exact about padding."""

from speechbrain_birq.models.encoders.chunking import ChunkSampler
from speechbrain_birq.models.encoders.encoder import SpeechBrainEncoder
from speechbrain_birq.models.encoders.inputs import ConvolutionalInput, LinearInput
from speechbrain_birq.models.encoders.interface import Encoder, check_encoder

__all__ = [
    "ChunkSampler",
    "ConvolutionalInput",
    "Encoder",
    "LinearInput",
    "SpeechBrainEncoder",
    "check_encoder",
]
