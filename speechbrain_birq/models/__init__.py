"""What is trained: BiRQ, the CTC recogniser, the frozen probe, and their parts.

Shapes are tuples of these letters, here and in every other room:

B utterances of a batch, S samples, T frames at the encoder's rate, M masked frames of a
batch, D features of a stacked frame, H width of the encoder, K layers of the encoder (k
is one of them), G codebooks, N codes of a codebook, C dimension of a code, V tokens
with the blank.
"""

from speechbrain_birq.models.birq import BiRQ, Labels
from speechbrain_birq.models.channel_statistics import ChannelStatistics
from speechbrain_birq.models.ctc import CTCModel, CTCOutput, SpecAugment
from speechbrain_birq.models.encoders.chunking import ChunkSampler
from speechbrain_birq.models.encoders.encoder import SpeechBrainEncoder
from speechbrain_birq.models.encoders.inputs import ConvolutionalInput, LinearInput
from speechbrain_birq.models.encoders.interface import Encoder
from speechbrain_birq.models.frontend import Frames, FrontEnd
from speechbrain_birq.models.labels.fitted_quantizer import FittedQuantizer
from speechbrain_birq.models.labels.label_norm import LabelNorm
from speechbrain_birq.models.labels.label_terms import (
    LabelTerm,
    Reconstruction,
    UsageEntropy,
)
from speechbrain_birq.models.labels.quantizer import Codebook, RandomProjectionQuantizer
from speechbrain_birq.models.labels.selector import GumbelSoftmaxSelector
from speechbrain_birq.models.masking import SpanMasking
from speechbrain_birq.models.objectives import Objective, PredictionHeads, penalty_sum
from speechbrain_birq.models.probe import LayerMixture, ProbeModel

__all__ = [
    "BiRQ",
    "CTCModel",
    "CTCOutput",
    "ChannelStatistics",
    "ChunkSampler",
    "Codebook",
    "ConvolutionalInput",
    "Encoder",
    "FittedQuantizer",
    "Frames",
    "FrontEnd",
    "GumbelSoftmaxSelector",
    "LabelNorm",
    "LabelTerm",
    "Labels",
    "LayerMixture",
    "LinearInput",
    "Objective",
    "PredictionHeads",
    "ProbeModel",
    "RandomProjectionQuantizer",
    "Reconstruction",
    "SpanMasking",
    "SpecAugment",
    "SpeechBrainEncoder",
    "UsageEntropy",
    "penalty_sum",
]
