"""Search the weights of a language model: encode once, decode for every pair."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from speechbrain_birq.data.manifest import Utterance, read_manifest
from speechbrain_birq.data.split_places import manifest_path
from speechbrain_birq.decoding.decoders import BeamDecoder, ErrorCounter
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference import Recogniser
from speechbrain_birq.models.ctc import CTCOutput

logger = logging.getLogger(__name__)


class Weighed(NamedTuple):
    """Error rates in percent at one pair of weights."""

    alpha: float
    beta: float
    wer: float
    cer: float


def tune_weights(
    run: str | Path,
    lm_path: str,
    *,
    split: str,
    alphas: Iterable[float],
    betas: Iterable[float],
    beam_size: int = 100,
    utterances: int = 500,
    trust: Iterable[str] = (),
    show: Callable[[Weighed], None] | None = None,
) -> list[Weighed]:
    """Score a fine-tuned run with every pair of weights.

    Arguments
    ---------
    run : str or Path
        Run folder of a fine-tuning; its manifests say where the split's audio lies.
    lm_path : str
        ARPA or kenlm binary file.
    split : str
        Use dev, not a split that results are reported on.
    alphas, betas : iterable
        Weights of the language model and of the number of words.
    beam_size : int
    utterances : int
        Largest number of utterances, taken evenly from the split.
    trust : iterable
        Further packages whose classes the run may build.
    show : callable, optional
        Called with each result as soon as it is known.

    Returns
    -------
    list
        One ``Weighed`` for each pair, in the order of the grid.

    Raises
    ------
    BadInput
        If the run, the split or the language model cannot be used, or no recording can
        be read.
    """
    rows = _rows(Path(run), split, utterances)
    recogniser = Recogniser(run, trust=trust)
    decode = BeamDecoder(recogniser.tokens, beam_size=beam_size, lm_path=lm_path)
    encoded = list(_encoded(recogniser, rows))
    if not encoded:
        raise BadInput(f"no recording of {split} in {run} can be read: repair them")
    found = []
    for alpha, beta in product(alphas, betas):
        decode.weigh(alpha, beta)
        rates = _rates(decode, encoded)
        found.append(Weighed(alpha, beta, rates.wer, rates.cer))
        if show is not None:
            show(found[-1])
    return found


def _encoded(
    recogniser: Recogniser, rows: Sequence[Utterance]
) -> Iterator[tuple[Utterance, CTCOutput]]:
    """Encode what can be read; the log names the rest, as in training."""
    for row in tqdm(rows, "encoded"):
        try:
            yield row, recogniser.log_probs(row.wav)
        except BadInput as error:
            logger.warning("left out: %s", error)


def _rows(run, split, utterances):
    path = manifest_path(run / "manifests", split)
    if not path.is_file():
        there = sorted(file.stem for file in path.parent.glob("*.csv"))
        raise BadInput(
            f"{run} has no manifest of the split {split!r} (it has "
            f"{', '.join(there) or 'none'}): give the folder of a fine-tuning, and a "
            f"split that it has read"
        )
    rows = [row for row in read_manifest(path) if row.text]
    if not rows:
        raise BadInput(f"{path} has no transcripts: take another split")
    step = max(1, -(-len(rows) // utterances))
    return rows[::step]


def _rates(decode, encoded):
    errors = ErrorCounter()
    for row, output in encoded:
        errors.append([row.ID], decode(*output), [row.text])
    return errors.rates()
