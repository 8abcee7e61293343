"""What the labels of some batches are worth: losses, accuracies, usage, speed."""

import logging
import math
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from speechbrain.dataio.batch import PaddedData
from torch.nn.functional import pad

from speechbrain_birq.distributed import gathered, total
from speechbrain_birq.metrics.codebook import (
    agreement,
    agreement_of_counts,
    bits_about,
    entropy_bits,
    information_of_counts,
    joint_code_counts,
    mutual_information,
    shares_of_counts,
    usage_of_shares,
)
from speechbrain_birq.models.masking import masked_rows
from speechbrain_birq.models.objectives import Objective, code_counts

logger = logging.getLogger(__name__)

SUMS = (
    "anchor_loss",
    "enhanced_loss",
    "num_frames",
    "anchor_correct",
    "enhanced_correct",
    "label_cost",
)
MOST_PAIRS = 2**22  # of codes: their counts are summed over the ranks, 32 MB a codebook
TENTHS = 10  # of an utterance, for what labels tell of the place in it


class LabelReport:
    """Collects objectives and gives their figures, over all ranks.

    Everything stays on the device until the figures are asked for. Then counts of codes
    are summed over the ranks, not the codes of all frames gathered: 100 steps of 8
    ranks have millions of them.

    Arguments
    ---------
    num_codebooks : int
        G
    num_codes : int
        N
    enhanced : bool
        Whether there are enhanced labels, or the anchor alone (BEST-RQ).
    device : str or torch.device

    Example
    -------
    >>> report = LabelReport(num_codebooks=1, num_codes=4, enhanced=False, device="cpu")
    >>> codes = torch.tensor([[0], [1]])
    >>> loss, two = torch.tensor([3.0]), torch.tensor(2)
    >>> none, correct = 0 * loss, (two - 1, 0 * two)
    >>> objective = Objective(loss, none, two, *correct, codes, codes[:0], none)
    >>> report.add(objective, PaddedData(torch.ones(1, 3) > 0, torch.ones(1)))
    >>> figures = report.figures(w_enhanced=0.0, w_anchor=1.0)
    >>> figures["G"], figures["anchor_accuracy"], figures["anchor_used_codes"]
    (1.5, 0.5, 2.0)
    """

    def __init__(
        self,
        *,
        num_codebooks: int,
        num_codes: int,
        enhanced: bool,
        device: str | torch.device,
    ) -> None:
        self.num_codebooks, self.num_codes = num_codebooks, num_codes
        self.enhanced, self.device = enhanced, device
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next figures begin here."""
        none = torch.zeros(0, self.num_codebooks, dtype=torch.long, device=self.device)
        self.num_batches = 0
        self.sums = torch.zeros(len(SUMS), dtype=torch.double, device=self.device)
        self.codes: dict[str, list[torch.Tensor]] = {
            "anchor": [none],
            "enhanced": [none],
        }
        self.places = [torch.zeros(0, 2, dtype=torch.long, device=self.device)]
        self.valid = torch.zeros((), dtype=torch.double, device=self.device)
        self.padded = 0
        self.started = time.monotonic()

    def add(
        self,
        objective: Objective,
        mask: PaddedData,
        speakers: Sequence[str] | None = None,
    ) -> None:
        """Add the objective of a batch.

        Arguments
        ---------
        objective : Objective
        mask : PaddedData
            (B, T) bool and (B,) relative lengths, which say what is padding.
        speakers : sequence of str, optional
            Speaker of each utterance. If all batches have them, the figures say what
            the labels tell of the speaker, and of the place in the utterance.
        """
        if speakers is not None:
            self.places.append(_places(mask, speakers, len(objective.anchor_codes)))
        values = [getattr(objective, name).detach().double().mean() for name in SUMS]
        sums = torch.stack(values)
        # A batch that is not finite would spoil the mean; its step was skipped.
        self.sums = self.sums + torch.where(torch.isfinite(sums).all(), sums, 0.0)
        self.codes["anchor"].append(objective.anchor_codes)
        self.codes["enhanced"].append(objective.enhanced_codes)
        self.valid = self.valid + (mask.lengths * mask.data.shape[1]).sum()
        self.padded += mask.data.numel()
        self.num_batches += 1

    def is_empty(self) -> bool:
        """Return whether no rank has added a batch; all ranks call it together."""
        return not any(gathered(self.num_batches))

    def figures(self, w_enhanced: float, w_anchor: float) -> dict[str, float]:
        """Return means per masked frame and the usage of the labels.

        All ranks call it together.

        Arguments
        ---------
        w_enhanced, w_anchor : float
            w₁ and w₂ of the loss.
        """
        sums = dict(zip(SUMS, total(self.sums).tolist(), strict=True))
        frames = sums["num_frames"] or math.nan  # no batch was finite
        places = self._all_places()
        figures = {
            "log_codes": math.log(self.num_codes),  # loss of a uniform guess
            "G": sums["anchor_loss"] / frames,
            "anchor_accuracy": sums["anchor_correct"] / frames,
            **self._usage("anchor", sums["anchor_loss"] / frames, places),
        }
        upper = 0.0
        if self.enhanced:
            upper = sums["enhanced_loss"] / frames
            figures |= {
                "F": upper,
                "enhanced_accuracy": sums["enhanced_correct"] / frames,
                **self._usage("enhanced", upper, places),
                **self._in_common(),
            }
            if sums["label_cost"]:
                figures["label_cost"] = sums["label_cost"] / frames
                upper += figures["label_cost"]
        return figures | {"loss": w_enhanced * upper + w_anchor * figures["G"]}

    def speed(self) -> dict[str, float]:
        """Return frames per second and the share of padding, since the last reset.

        All ranks call it together.
        """
        frames = gathered((self.valid.item(), self.padded))
        valid, padded = (sum(column) for column in zip(*frames, strict=True))
        elapsed = max(1e-9, time.monotonic() - self.started)
        return {"frames_per_second": valid / elapsed, "padding": 1 - valid / padded}

    def state_dict(self) -> dict[str, Any]:
        """Return what was added since the last reset, on the CPU."""
        return {
            "num_batches": self.num_batches,
            "sums": self.sums.cpu(),
            "codes": {kind: self._narrow_codes(kind) for kind in self.codes},
            "valid": self.valid.cpu(),
            "padded": self.padded,
            "elapsed": time.monotonic() - self.started,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` has returned."""
        self.num_batches, self.padded = state["num_batches"], state["padded"]
        # Checkpoints of earlier versions end before the cost of the label terms.
        lacking = len(SUMS) - len(state["sums"])
        self.sums = pad(state["sums"].to(self.device), (0, lacking))
        self.codes = {
            kind: [codes.to(self.device).long()]
            for kind, codes in state["codes"].items()
        }
        self.valid = state["valid"].to(self.device)
        self.started = time.monotonic() - state["elapsed"]

    def _usage(self, kind, loss, places):
        counts = total(code_counts(torch.cat(self.codes[kind]), self.num_codes)).cpu()
        shares = shares_of_counts(counts)
        usage = usage_of_shares(shares)._asdict()
        usage["bits"] = entropy_bits(shares) - loss / math.log(2)
        if len(places) == counts[0].sum() > 0:
            codes = self._all_codes(kind)
            for column, what in enumerate(("speaker", "time")):
                names, classes = places[:, column].unique(return_inverse=True)
                if len(names) > 1:  # a corpus may name no speakers
                    usage[f"{what}_bits"] = bits_about(codes, classes, self.num_codes)
        return {f"{kind}_{name}": value for name, value in usage.items()}

    def _in_common(self):
        """What the two kinds of labels have in common."""
        if self.num_codes**2 > MOST_PAIRS:
            both = self._all_codes("anchor"), self._all_codes("enhanced")
            shared, same = mutual_information(*both), agreement(*both)
        else:
            both = map(torch.cat, self.codes.values())
            counts = total(joint_code_counts(*both, self.num_codes)).cpu()
            shared, same = information_of_counts(counts), agreement_of_counts(counts)
        return {"agreement": same, "mutual_information": shared}

    def _all_places(self):
        """(M, 2) of all ranks; fewer rows if not all batches have speakers."""
        return torch.cat(gathered(torch.cat(self.places).cpu()))

    def _all_codes(self, kind):
        """(M, G) of all ranks."""
        return torch.cat(gathered(self._narrow_codes(kind))).long()

    def _narrow_codes(self, kind):
        """(M, G) of this rank on the CPU, in as few bytes as hold them."""
        dtype = torch.int16 if self.num_codes <= 2**15 else torch.int32
        return torch.cat(self.codes[kind]).to(dtype).cpu()


def _places(mask, speakers, num_masked):
    """(M, 2) number of the speaker and tenth of the utterance, of each masked frame."""
    rows, frames = masked_rows(mask.data, num_masked), mask.data.shape[1]
    utterance, place = rows // frames, rows % frames
    numbers = [zlib.crc32(speaker.encode()) for speaker in speakers]
    speaker = torch.tensor(numbers, device=rows.device)[utterance]
    tenth = TENTHS * place / (mask.lengths[utterance] * frames)
    return torch.stack((speaker, tenth.long().clamp_max(TENTHS - 1)), 1)


REMEDY = {
    "anchor": "Look for silent or constant recordings, or set l2_normalize: True.",
    "enhanced": "Set label_gradient: False, label_norm: channel, shared_head: False.",
}


def warn_of_collapse(figures: Mapping[str, float], threshold: float) -> None:
    """Log a warning for each kind of labels whose perplexity is below a threshold.

    Arguments
    ---------
    figures : mapping
        Those of a ``LabelReport``.
    threshold : float
        ``collapse_perplexity``
    """
    for kind, remedy in REMEDY.items():
        perplexity = figures.get(f"{kind}_perplexity", math.inf)
        if perplexity < threshold:
            logger.warning(
                "COLLAPSE: the %s labels have a perplexity of %.1f (threshold %g): "
                "a falling F means nothing now. %s",
                kind,
                perplexity,
                threshold,
                remedy,
            )
