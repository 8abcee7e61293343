"""What is compared: systems, sizes, and one audio for all of them."""

from typing import NamedTuple

import torch
from speechbrain.lobes.models.BESTRQ import compute_mask
from speechbrain.utils.seed import seed_everything

RATE = 16000
HOP = 160  # samples of a frame before stacking
STRIDE = 4  # such frames of an encoder frame, in both systems
MASK_PROB, MASK_LENGTH = 0.15, 4  # SpeechBrain's: 60 % of the frames in spans of 40 ms


class Size(NamedTuple):
    """Of an encoder."""

    num_layers: int
    d_model: int
    nhead: int
    d_ffn: int


SIZES = {
    "tiny": Size(4, 144, 4, 576),
    "small": Size(10, 256, 4, 1024),
    "speechbrain": Size(12, 576, 8, 2048),  # its recipe's own
    "wide": Size(5, 1024, 8, 4864),  # C1
    "base": Size(10, 768, 6, 3648),  # C2
    "large": Size(10, 1024, 8, 4864),  # C3, without its window
}


class Arm(NamedTuple):
    """One thing to measure.

    ``system`` is ``peer`` (SpeechBrain's BEST-RQ), ``best_rq`` or ``birq`` (ours);
    ``label_depth`` is k / K.
    """

    system: str
    attention: str = "RoPEMHA"
    convolutional: bool = True  # input as the peer's; else frames are stacked
    num_codes: int = 8192
    num_codebooks: int = 1
    label_depth: float = 0.7
    gradient: bool = True
    compiled: bool = False
    precision: str = "fp32"

    def label_layer(self, size: Size) -> int:
        """k"""
        return max(1, round(self.label_depth * size.num_layers))


PEER = Arm("peer", attention="RelPosMHAXL")
BEST_RQ, BIRQ = Arm("best_rq"), Arm("birq")
ARMS = {
    "peer": PEER,
    "best_rq_relpos": Arm("best_rq", attention="RelPosMHAXL"),
    "best_rq": BEST_RQ,
    "best_rq_stacked": BEST_RQ._replace(convolutional=False),
    "birq_0.3": BIRQ._replace(label_depth=0.3),
    "birq_0.5": BIRQ._replace(label_depth=0.5),
    "birq_0.7": BIRQ,
    "birq_0.3_forward": BIRQ._replace(label_depth=0.3, gradient=False),
    "birq_0.7_forward": BIRQ._replace(gradient=False),
    "best_rq_4": BEST_RQ._replace(num_codebooks=4),
    "birq_0.7_4": BIRQ._replace(num_codebooks=4),
    "peer_256": PEER._replace(num_codes=256),
    "best_rq_256": BEST_RQ._replace(num_codes=256),
    "birq_0.7_256": BIRQ._replace(num_codes=256),
    "peer_bf16": PEER._replace(precision="bf16"),
    "best_rq_bf16": BEST_RQ._replace(precision="bf16"),
    "birq_0.7_bf16": BIRQ._replace(precision="bf16"),
    "best_rq_compiled": BEST_RQ._replace(compiled=True),
    "best_rq_compiled_bf16": BEST_RQ._replace(compiled=True, precision="bf16"),
}


class Audio(NamedTuple):
    """A batch in both systems' terms."""

    wavs: torch.Tensor  # (B, S), padded on the right
    wav_lens: torch.Tensor  # (B,) relative
    hidden: torch.Tensor  # (M,) encoder frames, the same in every utterance


def make_audio(utterances, seconds, seed=0) -> Audio:
    """Noise; the shortest utterance is a tenth shorter than the longest.

    The peer hides the same frames of all utterances of a batch; so do ours here, and
    the number of masked frames is the same.
    """
    generator = torch.Generator().manual_seed(seed)
    seed_everything(seed, verbose=False)  # the peer's masks use the global states
    samples = round(seconds * RATE)
    wavs = 0.1 * torch.randn(utterances, samples, generator=generator)
    wav_lens = torch.linspace(1, 0.9, utterances)
    frames = (wav_lens * samples).long() // HOP + 1
    shape = (utterances, int(frames.max()), 80)
    mask = compute_mask(shape, frames.tolist(), MASK_PROB, MASK_LENGTH)
    for wav, length in zip(wavs, wav_lens, strict=True):
        wav[round(length.item() * samples) :] = 0
    return Audio(wavs, wav_lens, mask[::STRIDE] // STRIDE)


def build(arm: Arm, size: Size, folder, device, recipe=None):
    """The arm's ``Step``."""
    import ours
    import peer

    if arm.system == "peer":
        return peer.build(arm, size, folder, device, recipe)
    return ours.build(arm, size, folder, device)


class Step(NamedTuple):
    """A Brain that is ready to train."""

    brain: object
    batch: object  # Audio -> a fresh batch on the CPU, as a loader gives it
    sections: dict  # for ``timing.marked``
    frames: object  # samples -> encoder frames

    def __call__(self, batch):
        """One optimiser step."""
        return self.brain.fit_batch(batch)

    @property
    def num_parameters(self) -> int:
        """Trainable ones."""
        parameters = self.brain.modules.parameters()
        return sum(p.numel() for p in parameters if p.requires_grad)


def ready(brain):
    """As ``Brain.fit`` leaves a Brain before its first batch."""
    brain.on_fit_start()
    brain.modules.train()
    brain.step, brain.num_batches, brain.avg_train_loss = 1, 10**9, 0.0
    return brain
