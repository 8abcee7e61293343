"""Estimate an n-gram model of transcripts: interpolated modified Kneser-Ney, as ARPA.

It suits the texts of a corpus like AMI: a million words take seconds and some 100 MB of
memory. For larger ones take kenlm's ``lmplz -o 4``, which estimates the same.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from speechbrain_birq.checkpoints import files
from speechbrain_birq.errors import BadInput

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
Gram = tuple[str, ...]
Table = dict[Gram, tuple[float, float]]
FALLBACK = (0.5, 1.0, 1.5)  # lmplz's --discount_fallback
MOST_BEFORE_DATA = 10_000  # bytes in which an ARPA file begins, comments included


def estimate(sentences: Iterable[str], order: int = 4) -> list[Table]:
    """Estimate the probabilities of all n-grams that occur, and their back-off weights.

    p(w | h) = max(a(hw) − D(a(hw)), 0) / a(h·) + γ(h) p(w | h'), where h' is h without
    its first word. For the highest order, and if h begins a sentence, a is the count;
    otherwise it is the number of different words before hw. Unigrams are interpolated
    with the uniform distribution over all words, the end of a sentence and the unknown
    word.

    Arguments
    ---------
    sentences : iterable of str
    order : int
        Number of words in the longest n-grams.

    Raises
    ------
    BadInput
        If a text holds ``<s>``, ``</s>`` or ``<unk>``.

    Returns
    -------
    list
        {n-gram: (p, γ)} for each order; γ is 1 where nothing follows.

    Example
    -------
    >>> unigrams, bigrams = estimate(["A B", "A C", "A B"], order=2)
    >>> round(sum(p for word, (p, _) in unigrams.items() if word != ("<s>",)), 6)
    1.0
    >>> bigrams["A", "B"][0] > bigrams["A", "C"][0]
    True
    """
    counts = _adjusted(_count(sentences, order))
    discounts = [_discounts(table) for table in counts]
    vocabulary = [gram for gram in counts[0] if gram != (START,)] + [(UNKNOWN,)]
    lower = {gram[1:]: 1 / len(vocabulary) for gram in vocabulary}
    probabilities: list[dict[Gram, float]] = []
    weights: list[dict[Gram, float]] = []
    for table, discount in zip(counts, discounts, strict=True):
        lower, gamma = _interpolated(table, discount, lower)
        probabilities.append(lower)
        weights.append(gamma)
    # The unknown word gets the γ of the empty history.
    probabilities[0][(UNKNOWN,)] = weights[0][()] / len(vocabulary)
    probabilities[0][(START,)] = 0.0
    weights.append({})
    return [
        {gram: (p, weights[n + 1].get(gram, 1.0)) for gram, p in table.items()}
        for n, table in enumerate(probabilities)
    ]


def _count(sentences, order):
    """Raises BadInput if a text holds a marker, which no counts would be right with."""
    counts = [Counter() for _ in range(order)]
    for sentence in sentences:
        words = sentence.split()
        for marker in (START, END, UNKNOWN):
            if marker in words:
                raise BadInput(
                    f"the text {sentence[:60]!r} holds {marker}, which an n-gram model "
                    f"adds by itself: drop it"
                )
        words = (START, *words, END)
        for n, table in enumerate(counts, 1):
            table.update(words[i : i + n] for i in range(len(words) - n + 1))
    return counts


def _adjusted(counts):
    """Below the highest order, count the different words before an n-gram instead."""
    adjusted = [Counter() for _ in counts[:-1]] + [counts[-1]]
    for n, table in enumerate(counts[:-1]):
        adjusted[n].update(gram[1:] for gram in counts[n + 1])
        starts = {gram: count for gram, count in table.items() if gram[0] == START}
        adjusted[n].update(starts)
    adjusted[0].pop((START,), None)  # nothing comes before it: it is never predicted
    return adjusted


def _discounts(table):
    """D1, D2, D3+ of Chen and Goodman, from how many n-grams occur 1 to 4 times."""
    n1, n2, n3, n4 = (Counter(table.values())[count] for count in (1, 2, 3, 4))
    if 0 in (n1, n2, n3, n4):
        return FALLBACK
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    good = all(0 <= d <= count for count, d in enumerate(found, 1))
    return found if good else FALLBACK


def _interpolated(table, discount, lower):
    """{n-gram: p} and {history: γ} of one order; ``lower`` is {shorter n-gram: p}."""
    totals, freed = defaultdict(int), defaultdict(float)
    for gram, count in table.items():
        totals[gram[:-1]] += count
        freed[gram[:-1]] += discount[min(count, 3) - 1]
    gamma = {history: freed[history] / total for history, total in totals.items()}
    return {
        gram: (count - discount[min(count, 3) - 1]) / totals[gram[:-1]]
        + gamma[gram[:-1]] * lower[gram[1:]]
        for gram, count in table.items()
    }, gamma


def check_target(path: str | Path) -> None:
    """Refuse to replace a file that is no ARPA: it may be texts.

    Raises
    ------
    BadInput

    Example
    -------
    >>> path = getfixture("tmp_path") / "train.txt"
    >>> _ = path.write_text("ONE TWO")
    >>> check_target(path)
    Traceback (most recent call last):
    speechbrain_birq.errors.BadInput: ...train.txt exists and is no ARPA file, so it \
is not replaced: give another name for the language model, before the texts
    """
    if not Path(path).is_file():
        return
    with open(path, "rb") as file:
        start = file.read(MOST_BEFORE_DATA)
    if start.strip() and not re.search(rb"^\\data\\\s*$", start, re.MULTILINE):
        raise BadInput(
            f"{path} exists and is no ARPA file, so it is not replaced: give another "
            f"name for the language model, before the texts"
        )


def write_arpa(path: str | Path, tables: Sequence[Table]) -> None:
    """Write what ``estimate`` returns as an ARPA file, atomically."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write("\\data\\\n")
        for n, table in enumerate(tables, 1):
            file.write(f"ngram {n}={len(table)}\n")
        for n, table in enumerate(tables, 1):
            file.write(f"\n\\{n}-grams:\n")
            for gram in sorted(table):
                p, weight = table[gram]
                line = f"{_log10(p)}\t{' '.join(gram)}"
                file.write(line if n == len(tables) else f"{line}\t{_log10(weight)}")
                file.write("\n")
        file.write("\n\\end\\\n")


def _log10(value):
    return f"{math.log10(value):.7f}" if value > 0 else "-99"
