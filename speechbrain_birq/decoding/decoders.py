"""Turn log probabilities into texts, texts into error rates."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from speechbrain.decoders.ctc import CTCBeamSearcher, ctc_greedy_decode
from speechbrain.utils.metric_stats import ErrorRateStats

from speechbrain_birq.checkpoints import files
from speechbrain_birq.decoding.language_model import find_words
from speechbrain_birq.decoding.tokens import Tokens
from speechbrain_birq.distributed import gathered
from speechbrain_birq.errors import BadInput

WORTHLESS_CER = 50.0  # percent; above it, alignments are not worth reading


class Hypothesis(NamedTuple):
    """A text and its log probability, with the part of a language model if any."""

    text: str
    score: float


class GreedyDecoder:
    """Take the most probable token of every frame, drop repetitions and blanks.

    Arguments
    ---------
    tokens : CharacterTokens or SentencePieceTokens
        V tokens, number 0 is the blank.

    Example
    -------
    >>> from speechbrain_birq.decoding.tokens import CharacterTokens
    >>> log_probs = torch.eye(3)[torch.tensor([[2, 2, 0, 2, 1]])].log()
    >>> decode = GreedyDecoder(CharacterTokens(["<blank>", "A", "B"]))
    >>> decode(log_probs, torch.tensor([4]))
    ['BB']
    """

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens

    def __call__(self, log_probs: torch.Tensor, lengths: torch.Tensor) -> list[str]:
        """Decode a batch: (B, T, V), (B,) -> texts."""
        relative = lengths / log_probs.shape[1]
        decoded = ctc_greedy_decode(log_probs, relative, blank_id=0)
        return [" ".join(self.tokens.decode(ids).split()) for ids in decoded]

    def hypotheses(
        self, log_probs: torch.Tensor, lengths: torch.Tensor
    ) -> list[list[Hypothesis]]:
        """Return one hypothesis of each utterance, scored by its best path."""
        found = []
        best = log_probs.amax(-1)
        for text, row, length in zip(
            self(log_probs, lengths), best, lengths.tolist(), strict=True
        ):
            found.append([Hypothesis(text, row[:length].sum().item())])
        return found


class BeamDecoder:
    """SpeechBrain's CTC beam search, with a kenlm language model if one is given.

    Arguments
    ---------
    tokens : CharacterTokens or SentencePieceTokens
    beam_size : int
    lm_path : str, optional
        ARPA or kenlm binary file; needs the extra ``lm``.
    alpha, beta : float
        Weights of the language model and of the number of words.
    num_best : int
        Largest number of hypotheses. With more than one, beams are kept apart that
        differ only in words which no longer matter to the language model.

    Raises
    ------
    BadInput
        If a language model is given and kenlm is not installed, or if it does not fit
        the tokens, or if a weight is not finite.
    """

    def __init__(
        self,
        tokens: Tokens,
        *,
        beam_size: int = 100,
        lm_path: str | None = None,
        alpha: float = 0.5,
        beta: float = 1.5,
        num_best: int = 1,
    ) -> None:
        _check_weights(alpha, beta)
        words = None if lm_path is None else find_words(lm_path, tokens)
        try:
            self.searcher = CTCBeamSearcher(
                blank_index=0,
                vocab_list=tokens.vocabulary,
                beam_size=beam_size,
                kenlm_model_path=lm_path,
                unigrams=words,
                alpha=alpha,
                beta=beta,
                topk=num_best,
                prune_history=num_best == 1,
            )
        except OSError as error:  # kenlm's own complaint has many lines
            reason = " ".join(str(error).split())[-200:]
            raise BadInput(
                f"kenlm cannot read {lm_path} ({reason}): make it again"
            ) from error

    def weigh(self, alpha: float, beta: float) -> None:
        """Set other weights of the language model; it is not read again.

        Raises
        ------
        BadInput
            If a weight is not finite.
        """
        _check_weights(alpha, beta)
        self.searcher.lm.alpha, self.searcher.lm.beta = alpha, beta

    def __call__(self, log_probs: torch.Tensor, lengths: torch.Tensor) -> list[str]:
        """Decode a batch: (B, T, V), (B,) -> texts."""
        return [best[0].text for best in self.hypotheses(log_probs, lengths)]

    def hypotheses(
        self, log_probs: torch.Tensor, lengths: torch.Tensor
    ) -> list[list[Hypothesis]]:
        """Return the best hypotheses of each utterance, the best first."""
        rows = zip(log_probs.cpu().numpy(), lengths.tolist(), strict=True)
        # One by one, because the searcher rounds relative lengths down: some
        # utterances of a batch would lose their last frame.
        found = [self.searcher.decode_log_probs(row, length) for row, length in rows]
        return [[Hypothesis(h.text, float(h.lm_score)) for h in best] for best in found]


def _check_weights(alpha, beta):
    """With infinity or NaN the search would end without a hypothesis."""
    for name, weight in (("alpha", alpha), ("beta", beta)):
        if not math.isfinite(weight):
            raise BadInput(f"{name} {weight:g} is no weight: give a finite number")


def make_decoder(
    kind: str,
    tokens: Tokens,
    *,
    beam_size: int = 100,
    lm_path: str | None = None,
    alpha: float = 0.5,
    beta: float = 1.5,
    num_best: int = 1,
) -> GreedyDecoder | BeamDecoder:
    """Make the decoder that is named.

    Arguments
    ---------
    kind : str
        ``greedy`` or ``beam``.
    tokens : CharacterTokens or SentencePieceTokens
    beam_size, lm_path, alpha, beta, num_best
        As for ``BeamDecoder``.

    Raises
    ------
    BadInput
        If ``kind`` is neither, a language model or a number of hypotheses is given that
        would not be used, or that number or the size of the beam is below 1.
    """
    if beam_size < 1:
        raise BadInput(f"a beam of {beam_size} hypotheses finds none: give 1 or more")
    if kind == "greedy" and lm_path is not None:
        raise BadInput(
            f"greedy decoding has no use for lm_path {lm_path}: add --decoding beam"
        )
    if num_best < 1:
        raise BadInput(f"no list of {num_best} hypotheses: give 1 or more")
    if kind == "greedy" and num_best > 1:
        raise BadInput(
            f"greedy decoding has one hypothesis, not {num_best}: add --decoding beam"
        )
    if kind == "greedy":
        return GreedyDecoder(tokens)
    if kind == "beam":
        return BeamDecoder(
            tokens,
            beam_size=beam_size,
            lm_path=lm_path,
            alpha=alpha,
            beta=beta,
            num_best=num_best,
        )
    raise BadInput(f"decoding must be greedy or beam, got {kind!r}")


class ErrorRates(NamedTuple):
    """Error rates in percent."""

    wer: float
    cer: float


def worthless(cer: float) -> str:
    """Say that texts, and so what is aligned with them, are wrong for the most part.

    Example
    -------
    >>> worthless(67.31)
    'CER 67.3 %: most characters are wrong, so the alignments say little'
    """
    return f"CER {cer:.1f} %: most characters are wrong, so the alignments say little"


class ErrorCounter:
    """Count the word and character errors of a split, by SpeechBrain's edit distance.

    Example
    -------
    >>> errors = ErrorCounter()
    >>> errors.append(["a"], hypotheses=["ONE TOO"], references=["ONE TWO"])
    >>> errors.rates()
    ErrorRates(wer=50.0, cer=14.285714285714286)
    """

    def __init__(self) -> None:
        self.words = ErrorRateStats()
        self.characters = ErrorRateStats(split_tokens=True)

    def append(
        self, ids: Sequence[str], hypotheses: Sequence[str], references: Sequence[str]
    ) -> None:
        """Count the errors of a batch of texts."""
        decoded = [text.split() for text in hypotheses]
        spoken = [text.split() for text in references]
        self.words.append(ids, decoded, spoken)
        self.characters.append(ids, decoded, spoken)

    def gather(self) -> None:
        """Collect the utterances of all ranks, sorted by their ids."""
        for stats in (self.words, self.characters):
            found = gathered(stats.scores)
            if len(found) > 1:
                scores = [score for scores in found for score in scores]
                stats.scores = sorted(scores, key=lambda score: score["key"])

    def rates(self) -> ErrorRates:
        """Return WER and CER of what was counted."""
        return ErrorRates(
            self.words.summarize("error_rate"), self.characters.summarize("error_rate")
        )

    def utterances(self) -> list[dict[str, Any]]:
        """Return errors and lengths of each utterance, for confidence intervals."""
        rows = zip(self.words.scores, self.characters.scores, strict=True)
        return [
            {
                "id": word["key"],
                "word_errors": word["num_edits"],
                "words": word["num_ref_tokens"],
                "character_errors": character["num_edits"],
                "characters": character["num_ref_tokens"],
            }
            for word, character in rows
        ]

    def write(self, path: str | Path) -> None:
        """Write the word alignments of every utterance."""
        with (
            files.replacing(path) as partial,
            open(partial, "w", encoding="utf-8") as file,
        ):
            if self.rates().cer > WORTHLESS_CER:
                file.write(f"{worthless(self.rates().cer)}\n\n")
            self.words.write_stats(file)
