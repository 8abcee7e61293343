"""Which weights of a language model suit a recogniser: encode once, decode often."""

from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from speechbrain_birq.data.manifest import read_manifest
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
    run,
    lm_path,
    *,
    split,
    alphas,
    betas,
    beam_size=100,
    utterances=500,
    trust=(),
    show=None,
) -> list[Weighed]:
    """Error rates of a fine-tuned run for every pair of weights.

    Arguments
    ---------
    run : str or Path
        Run folder of a fine-tuning; its manifests say where the split's audio lies.
    lm_path : str
        ARPA or kenlm binary.
    split : str
        One on which nothing will be reported: dev.
    alphas, betas : list
        Weights of the language model and of the number of words.
    beam_size : int
    utterances : int
        At most so many, evenly taken from the split.
    trust : tuple
    show : callable, optional
        Called with every ``Weighed`` as soon as it is known.

    Returns
    -------
    list
        Of ``Weighed``, in the order of the grid.

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
    for alpha in alphas:
        for beta in betas:
            decode.weigh(alpha, beta)
            found.append(Weighed(alpha, beta, *_rates(decode, encoded)))
            if show is not None:
                show(found[-1])
    return found


def _rows(run, split, utterances):
    path = run / "manifests" / f"{split}.csv"
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
