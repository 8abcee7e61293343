"""Search the weights of a language model: encode once, decode for every pair."""

from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from speechbrain_birq.data.manifest import read_manifest
from speechbrain_birq.data.split_places import manifest_path
from speechbrain_birq.decoding.decoders import BeamDecoder, ErrorCounter
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference import Recogniser


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
        If the run, the split or the language model cannot be used.
    """
    rows = _rows(Path(run), split, utterances)
    recogniser = Recogniser(run, trust=trust)
    decode = BeamDecoder(recogniser.tokens, beam_size=beam_size, lm_path=lm_path)
    encoded = [(row, *recogniser.log_probs(row.wav)) for row in tqdm(rows, "encoded")]
    found = []
    for alpha, beta in product(alphas, betas):
        decode.weigh(alpha, beta)
        rates = _rates(decode, encoded)
        found.append(Weighed(alpha, beta, rates.wer, rates.cer))
        if show is not None:
            show(found[-1])
    return found


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
    for row, frames, lengths in encoded:
        errors.append([row.ID], decode(frames, lengths), [row.text])
    return errors.rates()
