"""Fine-tuning with CTC."""

import csv
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import speechbrain as sb
import torch
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.utils.distributed import if_main_process

from speechbrain_birq.brains.base import NOTHING_READ, SumBrain
from speechbrain_birq.brains.memory import memory_told
from speechbrain_birq.brains.opt_class import opt_class_named
from speechbrain_birq.brains.run_log import add_result
from speechbrain_birq.brains.skipped_steps import refuse_divergence
from speechbrain_birq.checkpoints import files
from speechbrain_birq.checkpoints.run_folder import TUNED
from speechbrain_birq.decoding.decoders import (
    WORTHLESS_CER,
    ErrorCounter,
    GreedyDecoder,
    worthless,
)
from speechbrain_birq.distributed import total
from speechbrain_birq.errors import BadInput
from speechbrain_birq.metrics.significance import file_name, interval, interval_text
from speechbrain_birq.models.ctc import CTCOutput

logger = logging.getLogger(__name__)


# Entries of results.json that are no split.
RESULTS = ("seconds", "steps", "valid", TUNED, "layer_weights")


class Transfer(NamedTuple):
    """How a pretrained encoder is fine-tuned; the defaults are for a random one."""

    lr_encoder: float | None = None  # None: the rate of the output layer
    freeze_steps: int = 0  # the encoder does not move in the first so many steps
    fresh_layers: int = 0  # so many last layers start at random

    @classmethod
    def of(cls, hparams: Mapping[str, Any]) -> "Transfer":
        """Return what an experiment says.

        Raises
        ------
        BadInput
            If layers would be held that start at random.
        """
        if hparams.get("pretrained") is None:  # nothing to protect: one rate
            return cls()
        if hparams["freeze_steps"] and hparams["fresh_layers"]:
            raise BadInput(
                "freeze_steps would hold the fresh_layers at random: set one of the "
                "two to 0 (lr_encoder 0 keeps the pretrained layers as they are)"
            )
        return cls(
            lr_encoder=hparams["lr_encoder"],
            freeze_steps=hparams["freeze_steps"],
            fresh_layers=hparams["fresh_layers"],
        )


class CTCBrain(SumBrain):
    """Trains ``modules.model`` (a ``CTCModel``) and scores it.

    Further ``hparams``: ``output_folder``.

    Arguments
    ---------
    *args, **kwargs
        Those of ``speechbrain.Brain``.
    tokens : CharacterTokens or SentencePieceTokens
    decoder : callable
        (log_probs, lengths) -> texts, for the test splits. Validation decodes greedily.
    transfer : Transfer
    """

    def __init__(
        self,
        *args: Any,
        tokens: Any,
        decoder: Any,
        transfer: Transfer,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, min_keys=("cer",), **kwargs)
        greedy = GreedyDecoder(tokens)
        self.decoders = {sb.Stage.VALID: greedy, sb.Stage.TEST: decoder}
        self.transfer = transfer
        # DDP would otherwise wait for gradients of the frozen encoder.
        self.find_unused_parameters |= transfer.freeze_steps > 0
        if transfer.lr_encoder == 0:
            self._hold_pretrained()
        self.losses = {stage: MeanLoss(self.device) for stage in sb.Stage}
        self.test_chunk = None  # whole utterances

    def _hold_pretrained(self):
        """Let the pretrained layers keep their weights and running statistics.

        Their gradient would take two thirds of a step, and part in the clipping.
        """
        encoder, count = self.model.encoder, self.transfer.fresh_layers
        fresh = set(encoder.last_layers(count).modules()) if count else set()
        for module in set(encoder.modules()) - fresh:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
            if hasattr(module, "running_mean"):
                module.momentum = 0.0

    def init_optimizers(self) -> None:
        """Make one optimizer of ``parameter_groups``."""
        groups = self.parameter_groups()
        with opt_class_named(self):
            self.optimizer = self.opt_class(groups)
        self.optimizers_dict = {"opt_class": self.optimizer}
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("optimizer", self.optimizer)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return two groups: what is pretrained learns at a rate of its own."""
        encoder = self.model.encoder
        new = list(self.model.head.parameters())
        if self.transfer.fresh_layers:
            new += encoder.last_layers(self.transfer.fresh_layers).parameters()
        ids = {id(parameter) for parameter in new}
        old = [p for p in encoder.parameters() if id(p) not in ids]
        pretrained: dict[str, Any] = {"params": old}
        if self.transfer.lr_encoder is not None:
            pretrained["lr"] = self.transfer.lr_encoder
        return [pretrained, {"params": new}]

    @memory_told("max_seconds")
    def fit_batch(self, batch: PaddedBatch | None) -> torch.Tensor:
        """Backpropagate the sum of −log p(text) over a micro-batch.

        Arguments
        ---------
        batch : PaddedBatch or None
            None where no audio of the batch could be read.

        Returns
        -------
        torch.Tensor
            Detached loss per target token, on the device.
        """
        frozen = self.optimizer_step < self.transfer.freeze_steps
        self.model.freeze_encoder(frozen)
        with self.accumulation():
            if batch is None:
                return self.backward_silence()
            with self.training_ctx:
                outputs = self.compute_forward(batch, sb.Stage.TRAIN)
                loss = self.compute_objectives(outputs, batch, sb.Stage.TRAIN)
            num_tokens = num_learnable(outputs, batch)
            self.accumulate(loss, num_tokens, batch)
        return loss.detach() / num_tokens.clamp_min(1)

    def loss_of_silence(
        self, wavs: torch.Tensor, wav_lens: torch.Tensor
    ) -> torch.Tensor:
        """Return 0 times the sum of the model's output for silence."""
        return 0.0 * self.modules.model(wavs, wav_lens).log_probs.sum()

    def compute_forward(self, batch: PaddedBatch, stage: sb.Stage) -> CTCOutput:
        """Return log probabilities and lengths."""
        batch = batch.to(self.device, non_blocking=True)
        if stage == sb.Stage.TRAIN:
            return self.modules.model(*batch.sig)
        # DDP would wait, because in evaluation ranks have different numbers of batches.
        chunk = self.test_chunk if stage == sb.Stage.TEST else None
        return self.model(*batch.sig, chunk=chunk)

    def compute_objectives(
        self, outputs: CTCOutput, batch: PaddedBatch, stage: sb.Stage
    ) -> torch.Tensor:
        """Return the summed CTC loss without the texts that are too long.

        In evaluation, decode and count errors, too.
        """
        loss = torch.nn.functional.ctc_loss(
            outputs.log_probs.transpose(0, 1),
            batch.tokens.data,
            outputs.lengths,
            num_targets(batch),
            blank=0,
            reduction="sum",
            zero_infinity=True,
        )
        self.losses[stage].add(loss, num_learnable(outputs, batch))
        if stage != sb.Stage.TRAIN:
            texts = self.decoders[stage](*outputs)
            self.errors.append(batch.id, texts, batch.reference)
        return loss

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Begin to count; a resumed epoch of training continues its mean loss."""
        if stage != sb.Stage.TRAIN:
            self.errors = ErrorCounter()
            self.losses[stage].reset()

    def on_stage_end(
        self, stage: sb.Stage, stage_loss: float, epoch: int | None = None
    ) -> None:
        """Report; keep the checkpoint with the lowest character error rate."""
        # Weighted by tokens, not by batches as in SpeechBrain's stage_loss.
        figures = {"loss": self.losses[stage].mean()}
        if stage == sb.Stage.TRAIN:
            self.losses[stage].reset()
            figures["grad_norm"] = self.grad_norm.item()
            figures["lr"] = self.optimizer.param_groups[-1]["lr"]
            self.report("train", self.optimizer_step, figures)
            return
        self.errors.gather()
        if not self.errors.words.scores:
            kind = "validation" if stage == sb.Stage.VALID else "test"
            raise BadInput(NOTHING_READ % kind)
        if stage == sb.Stage.VALID:
            figures |= self.errors.rates()._asdict()
            self.report("valid", self.optimizer_step, figures)
            refuse_divergence(self.model, figures["loss"], self.optimizer_step)
            self.save({"cer": figures["cer"], "step": self.optimizer_step})

    def rank_state(self) -> dict[str, Any]:
        """Add the sums of this epoch."""
        sums = self.losses[sb.Stage.TRAIN].sums.cpu()
        return super().rank_state() | {"loss": sums}

    def set_rank_state(self, state: Mapping[str, Any], end_of_epoch: bool) -> None:
        """Restore ``rank_state``."""
        super().set_rank_state(state, end_of_epoch)
        if "loss" in state:  # unlike in a checkpoint of the layout before the rooms
            self.losses[sb.Stage.TRAIN].sums = state["loss"].to(self.device)

    def score(self, split: str, loader: Any, chunk: Any = None) -> dict[str, float]:
        """Compute word and character error rates of the best checkpoint on a split.

        Writes ``wer_<split>.txt`` (alignments) and ``errors_<split>.csv`` (counts of
        each utterance) and adds the split to ``results.json``. In the names of files,
        the "/" of a split below another folder becomes "_".

        Arguments
        ---------
        split : str
            What the results are called.
        loader : DataLoader
        chunk : DynChunkTrainConfig, optional
            Decode what a stream in such chunks would give.

        Returns
        -------
        dict
            ``wer``, ``cer`` in percent, ``wer_low`` and ``wer_high`` (95 % interval,
            bootstrap over utterances), ``utterances``.
        """
        self.test_chunk = chunk
        self.evaluate(loader, min_key="cer")
        rows = self.errors.utterances()
        rates = {k: round(v, 3) for k, v in self.errors.rates()._asdict().items()}
        low, high = interval(*([r[k] for r in rows] for k in ("word_errors", "words")))
        result = {
            **rates,
            "wer_low": low,
            "wer_high": high,
            "utterances": len(rows),
        }
        if if_main_process():
            logger.info(
                "%s: WER %.2f %% (95 %% interval %s), CER %.2f %%",
                *(split, rates["wer"], interval_text(low, high), rates["cer"]),
            )
            if rates["cer"] > WORTHLESS_CER:
                logger.warning("%s: %s", split, worthless(rates["cer"]))
            self._write_scores(Path(self.hparams.output_folder), split, rows)
            add_result(self.hparams.output_folder, split, result)
        return result

    def _write_scores(self, folder, split, rows):
        name = file_name(split)
        self.errors.write(folder / f"wer_{name}.txt")
        path = folder / f"errors_{name}.csv"
        with (
            files.replacing(path) as partial,
            open(partial, "w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


class MeanLoss:
    """Mean loss per token, on the device until it is asked for.

    Arguments
    ---------
    device : str or torch.device

    Example
    -------
    >>> mean = MeanLoss("cpu")
    >>> mean.add(torch.tensor(6.0), torch.tensor(2))
    >>> mean.add(torch.tensor(torch.nan), torch.tensor(2))
    >>> mean.mean()
    3.0
    """

    def __init__(self, device: str | torch.device) -> None:
        self.device = device
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.sums = torch.zeros(2, dtype=torch.double, device=self.device)

    def add(self, loss: torch.Tensor, num_tokens: torch.Tensor) -> None:
        """Add the sum of a batch, unless it is not finite: its step is skipped."""
        sums = torch.stack((loss.detach().double(), num_tokens.double()))
        self.sums = self.sums + torch.where(torch.isfinite(loss.detach()), sums, 0.0)

    def mean(self) -> float:
        """Return the mean over all ranks, NaN if nothing was finite."""
        loss, num_tokens = total(self.sums).tolist()
        return loss / (num_tokens or math.nan)


def check_test_splits(splits: Sequence[str]) -> None:
    """Refuse test splits whose scores would replace other figures of the run.

    Raises
    ------
    BadInput
        If ``results.json`` has an entry of that name, or two splits have one file.

    Example
    -------
    >>> check_test_splits(["en/test", "de/test"])
    >>> check_test_splits(["en/test", "en_test"])
    Traceback (most recent call last):
    speechbrain_birq.errors.BadInput: test_splits: the scores of 'en/test' and \
'en_test' have the same file: rename one
    """
    files: dict[str, str] = {}
    for split in splits:
        if split in RESULTS:
            raise BadInput(
                f"test_splits: results.json has a figure {split!r} of the run itself: "
                f"rename the folder of the split, or make a link to it"
            )
        other = files.setdefault(file_name(split), split)
        if other != split:
            raise BadInput(
                f"test_splits: the scores of {other!r} and {split!r} have the same "
                f"file: rename one"
            )


def num_targets(batch: PaddedBatch) -> torch.Tensor:
    """Return the number of tokens of each text: (B,) int64."""
    data, lens = batch.tokens
    return torch.round(lens * data.shape[1]).long()


def num_learnable(outputs: CTCOutput, batch: PaddedBatch) -> torch.Tensor:
    """Return the number of tokens of all texts that have an alignment.

    A text needs a frame for each token, and a blank between two equal tokens. If there
    are fewer frames, its probability is 0 and its loss is left out.
    """
    data, counts = batch.tokens.data, num_targets(batch)
    place = torch.arange(data.shape[1], device=data.device)[1:]
    equal = (data[:, 1:] == data[:, :-1]) & (place < counts[:, None])
    fits = counts + equal.sum(1) <= outputs.lengths
    return (counts * fits).sum()  # indexing with fits would wait for the device
