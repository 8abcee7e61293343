"""Fine-tuning with CTC."""

import csv
import json
import logging
import math
from pathlib import Path

import speechbrain as sb
import torch
from speechbrain.utils.distributed import if_main_process

from speechbrain_birq.brains.base import NOTHING_READ, SumBrain
from speechbrain_birq.brains.memory import memory_told
from speechbrain_birq.checkpoints import files
from speechbrain_birq.decoding.decoders import ErrorCounter, GreedyDecoder
from speechbrain_birq.distributed import total
from speechbrain_birq.errors import BadInput
from speechbrain_birq.metrics.significance import interval, interval_text

logger = logging.getLogger(__name__)


class CTCBrain(SumBrain):
    """Trains ``modules.model`` (a ``CTCModel``) and scores it.

    Further ``hparams``: ``tokens``, ``decoder`` (of the test splits; validation decodes
    greedily), ``freeze_steps``, ``fresh_layers``, ``lr_encoder``, ``output_folder``.
    """

    best_keys = ("cer",)
    chunk = None  # of evaluation; validation sees whole utterances
    resumed = (0.0, 0.0)  # sums of the epoch before a recovery

    def init_optimizers(self):
        """Two groups: what is pretrained learns at a rate of its own."""
        encoder, fresh = self.model.encoder, self.hparams.fresh_layers
        new = list(self.model.head.parameters())
        if fresh:
            new += encoder.last_layers(fresh).parameters()
        ids = {id(parameter) for parameter in new}
        old = [p for p in encoder.parameters() if id(p) not in ids]
        self.optimizer = self.opt_class(
            [{"params": old, "lr": self.hparams.lr_encoder}, {"params": new}]
        )
        self.optimizers_dict = {"opt_class": self.optimizer}
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("optimizer", self.optimizer)

    def backward_batch(self, batch):
        """Sum of −log p(text) over the batch; items are target tokens."""
        self.model.freeze_encoder(self.optimizer_step < self.hparams.freeze_steps)
        with self.training_ctx:
            outputs = self.compute_forward(batch, sb.Stage.TRAIN)
            loss = self.compute_objectives(outputs, batch, sb.Stage.TRAIN)
        num_tokens = num_targets(batch).sum()
        self.accumulate(loss, num_tokens, batch)
        finite = torch.isfinite(loss.detach())  # else the step is skipped
        self.loss_sum += torch.where(finite, loss.detach(), 0.0)
        self.num_tokens += num_tokens * finite
        return loss.detach() / num_tokens.clamp_min(1)

    def backward_nothing(self):
        """One silent frame whose loss counts 0."""
        self.model.freeze_encoder(self.optimizer_step < self.hparams.freeze_steps)
        frontend = self.model.frontend
        samples = frontend.hop_samples * frontend.stack
        silence = torch.zeros(1, samples, device=self.device)
        with self.training_ctx:
            outputs = self.modules.model(silence, torch.ones(1, device=self.device))
        self.scaler.scale(0.0 * outputs.log_probs.sum()).backward()

    def compute_forward(self, batch, stage):
        """Log probabilities and lengths."""
        # In evaluation ranks have different numbers of batches: DDP would wait.
        model = self.modules.model if stage == sb.Stage.TRAIN else self.model
        return model(*batch.sig, chunk=self.chunk)

    def compute_objectives(self, outputs, batch, stage):
        """Summed CTC loss; a text too long for its audio counts 0."""
        return torch.nn.functional.ctc_loss(
            outputs.log_probs.transpose(0, 1),
            batch.tokens.data,
            outputs.lengths,
            num_targets(batch),
            blank=0,
            reduction="sum",
            zero_infinity=True,
        )

    @memory_told("max_eval_seconds")
    def evaluate_batch(self, batch, stage):
        """Decode and count errors."""
        if batch is None:
            return torch.tensor(math.nan)
        with self.evaluation_ctx:
            outputs = self.compute_forward(batch.to(self.device), stage)
            loss = self.compute_objectives(outputs, batch, stage)
        self.errors.append(batch.id, self.decoder(*outputs), batch.reference)
        num_tokens = num_targets(batch).sum()
        self.loss_sum += loss
        self.num_tokens += num_tokens
        return (loss / num_tokens.clamp_min(1)).cpu()

    def on_stage_start(self, stage, epoch=None):
        """Fresh counters."""
        self.errors = ErrorCounter()
        self.decoder = GreedyDecoder(self.hparams.tokens)
        if stage == sb.Stage.TEST:
            self.decoder = self.hparams.decoder
        loss_sum, num_tokens = self.resumed if stage == sb.Stage.TRAIN else (0.0, 0.0)
        self.loss_sum = torch.tensor(loss_sum, device=self.device)
        self.num_tokens = torch.tensor(num_tokens, device=self.device)
        self.resumed = (0.0, 0.0)

    def rank_state(self):
        """Besides: the sums of this epoch."""
        sums = self.loss_sum.item(), self.num_tokens.item()
        return super().rank_state() | {"sums": sums}

    def set_rank_state(self, state, end_of_epoch):
        """Restore ``rank_state``."""
        super().set_rank_state(state, end_of_epoch)
        self.resumed = (0.0, 0.0) if end_of_epoch else state["sums"]

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Report; keep the checkpoint with the lowest character error rate."""
        self.loss_sum, self.num_tokens = total(self.loss_sum), total(self.num_tokens)
        if stage != sb.Stage.TRAIN:
            self.errors.gather()
        if stage != sb.Stage.TRAIN and not self.errors.words.scores:
            kind = "validation" if stage == sb.Stage.VALID else "test"
            raise BadInput(NOTHING_READ % kind)
        # Weighted by tokens, not by batches; nothing unreadable in it.
        loss = (self.loss_sum / self.num_tokens.clamp_min(1)).item()
        if stage == sb.Stage.TRAIN:
            figures = {"loss": loss, "grad_norm": self.grad_norm.item()}
            figures["lr"] = self.optimizer.param_groups[-1]["lr"]
            self.hparams.run_log.report("train", self.optimizer_step, figures)
            return
        if stage == sb.Stage.VALID:
            rates = self.errors.rates()
            figures = {"loss": loss, **rates._asdict()}
            self.hparams.run_log.report("valid", self.optimizer_step, figures)
            self.save({"cer": rates.cer, "step": self.optimizer_step})

    def score(self, split, loader, chunk=None) -> dict:
        """Word and character error rates of the best checkpoint on a split.

        Writes ``wer_<split>.txt`` (alignments) and ``errors_<split>.csv`` (counts of
        each utterance) and adds the split to ``results.json``.

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
        self.chunk = chunk
        self.evaluate(loader, min_key="cer")
        self.chunk = None
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
            self._write_scores(Path(self.hparams.output_folder), split, rows)
            add_result(self.hparams.output_folder, split, result)
        return result

    def _write_scores(self, folder, split, rows):
        self.errors.write(folder / f"wer_{split}.txt")
        with open(folder / f"errors_{split}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


def num_targets(batch) -> torch.Tensor:
    """(B,) int64 tokens of each text."""
    data, lens = batch.tokens
    return torch.round(lens * data.shape[1]).long()


def add_result(folder, key, value) -> None:
    """Add or replace one entry of a run folder's ``results.json``."""
    path = Path(folder) / "results.json"
    results = json.loads(path.read_text()) if path.is_file() else {}
    results[key] = value
    files.write(path, json.dumps(results, indent=2) + "\n")
