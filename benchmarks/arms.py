"""Arms of the step benchmark: systems, encoder sizes, and the audio that all share."""

from typing import NamedTuple

import torch
from speechbrain.lobes.models.BESTRQ import compute_mask
from speechbrain.utils.seed import seed_everything

RATE = 16000
HOP = 160  # samples from one frame to the next, before stacking
STRIDE = 4  # frames that both systems join to one encoder frame
MASK_PROB, MASK_LENGTH = 0.15, 4  # SpeechBrain's: 60 % of the frames in spans of 40 ms


class Size(NamedTuple):
    """Size of an encoder."""

    num_layers: int
    d_model: int
    nhead: int
    d_ffn: int


SIZES = {
    "tiny": Size(4, 144, 4, 576),
    "small": Size(10, 256, 4, 1024),
    "speechbrain": Size(12, 576, 8, 2048),  # its recipe's own
    # About as many weights as C1, C2 and C3, with SpeechBrain's Conformer:
    "wide": Size(5, 1024, 8, 4864),
    "base": Size(10, 768, 6, 3648),
    "large": Size(10, 1024, 8, 4864),
}


class Arm(NamedTuple):
    """System and settings that are measured together.

    ``system`` is ``peer`` (SpeechBrain's BEST-RQ), ``best_rq`` or ``birq`` (ours);
    ``label_depth`` is k / K. ``file`` has what an arm does not name: that of the paper
    has one output layer, raw distances and LayerNorm of layer k.
    """

    system: str
    kind: str = "conformer"
    attention: str = "RoPEMHA"
    window: int | None = None  # frames
    convolutional: bool = True  # the peer's convolutional input; False: stacked frames
    num_codes: int = 8192
    num_codebooks: int = 1
    label_depth: float = 0.7
    gradient: bool = True
    compiled: bool = False
    precision: str = "fp32"
    file: str = "birq_paper_base"

    def label_layer(self, size: Size) -> int:
        """Return k, the layer that gives the enhanced labels."""
        return max(1, round(self.label_depth * size.num_layers))


PEER = Arm("peer", attention="RelPosMHAXL")
BEST_RQ, BIRQ = Arm("best_rq"), Arm("birq")
# The labels of the shipped birq_* files.
SHIPPED = Arm("birq", num_codes=512, num_codebooks=4, gradient=False, file="birq_base")
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
    "birq_0.7_shipped": SHIPPED,
    "best_rq_4": BEST_RQ._replace(num_codebooks=4),
    "birq_0.7_4": BIRQ._replace(num_codebooks=4),
    # The paper's encoder; the window is so small that 3 s have blocks of padding only.
    "birq_0.7_block": BIRQ._replace(
        kind="block_conformer", attention="ShawMHA", window=4, convolutional=False
    ),
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
    """Batch that both systems can read."""

    wavs: torch.Tensor  # (B, S), padded on the right
    wav_lens: torch.Tensor  # (B,) relative
    masked: torch.Tensor  # (M,) masked encoder frames, the same in every utterance


def make_audio(utterances, seconds, seed=0) -> Audio:
    """Make a batch of noise, in which the shortest utterance has 9/10 of the longest.

    The peer masks the same frames in all utterances of a batch. Our arms do the same
    here, so that both systems have equally many masked frames.
    """
    generator = torch.Generator().manual_seed(seed)
    # The peer draws its masks from the global random states.
    seed_everything(seed, verbose=False)
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
    """Build the Brain of an arm and return its ``Step``."""
    import ours
    import peer

    if arm.system == "peer":
        return peer.build(arm, size, folder, device, recipe)
    return ours.build(arm, size, folder, device)


class Step(NamedTuple):
    """Brain that is ready to train, with what the benchmarks need to run it."""

    brain: object
    batch: object  # function: Audio -> a new batch on the CPU, like a loader's
    sections: dict  # parts of a step, for ``timing.marked``
    frames: object  # function: samples -> encoder frames

    def __call__(self, batch):
        """Run one optimizer step."""
        return self.brain.fit_batch(batch)

    @property
    def num_parameters(self) -> int:
        """Number of trainable parameters."""
        parameters = self.brain.modules.parameters()
        return sum(p.numel() for p in parameters if p.requires_grad)


def ready(brain):
    """Bring a Brain into the state that ``Brain.fit`` has before its first batch."""
    brain.on_fit_start()
    brain.modules.train()
    brain.step, brain.num_batches, brain.avg_train_loss = 1, 10**9, 0.0
    return brain
