"""Interpolated modified Kneser-Ney: against the definition, and through kenlm."""

import itertools
import math
import random

import pytest

from speechbrain_birq.cli.main import main
from speechbrain_birq.decoding.ngram import (
    FALLBACK,
    _discounts,
    estimate,
    write_arpa,
)
from speechbrain_birq.errors import BadInput

kenlm = pytest.importorskip("kenlm", reason='pip install -e ".[lm]"')

WORDS = "THE A CAT DOG SAT RAN ON OFF MAT".split()


def sentences(count=300, seed=0):
    """Words that follow each other with very different frequencies."""
    rng = random.Random(seed)
    texts = []
    for _ in range(count):
        words = [rng.choice(WORDS[:2])]
        while len(words) < rng.randint(2, 7):
            start = (WORDS.index(words[-1]) * 3 + rng.choice([0, 0, 0, 1, 2])) % 9
            words.append(WORDS[start])
        texts.append(" ".join(words))
    return texts


def occurrences(texts, gram):
    """How often a sequence of words stands in the texts, counted one by one."""
    found = 0
    for text in texts:
        words = ["<s>", *text.split(), "</s>"]
        for start in range(len(words) - len(gram) + 1):
            found += words[start : start + len(gram)] == list(gram)
    return found


def all_words(texts):
    return [*sorted({word for text in texts for word in text.split()}), "</s>"]


def adjusted(texts, gram, order):
    if len(gram) == order or gram[0] == "<s>":
        return occurrences(texts, gram)
    return sum(
        occurrences(texts, (before, *gram)) > 0
        for before in ["<s>", *all_words(texts)[:-1]]
    )


def probability(texts, word, history, order, discounts):
    """The definition, recursively; ``discounts`` of each order."""
    words = all_words(texts)
    counts = {w: adjusted(texts, (*history, w), order) for w in words}
    shorter = (
        probability(texts, word, history[1:], order, discounts)
        if history
        else 1 / (len(words) + 1)
    )
    total = sum(counts.values())
    if total == 0:
        return shorter
    discount = [0, *discounts[len(history)]]
    taken = {w: discount[min(3, c)] for w, c in counts.items()}
    share = max(counts.get(word, 0) - taken.get(word, 0), 0) / total
    return share + sum(taken.values()) / total * shorter


@pytest.fixture(scope="module")
def texts():
    return sentences()


@pytest.fixture(scope="module")
def model(texts, tmp_path_factory):
    """The estimated 3-gram, read by kenlm."""
    path = tmp_path_factory.mktemp("lm") / "tiny.arpa"
    write_arpa(path, estimate(texts, 3))
    return kenlm.Model(str(path))


def asked(model, word, history):
    state, following = kenlm.State(), kenlm.State()
    if history[:1] == ("<s>",):
        model.BeginSentenceWrite(state)
        history = history[1:]
    else:
        model.NullContextWrite(state)
    for before in history:
        model.BaseScore(state, before, following)
        state, following = following, state
    return 10 ** model.BaseScore(state, word, following)


HISTORIES = [
    (),
    ("<s>",),
    ("<s>", "THE"),
    ("CAT", "MAT"),
    ("DOG", "THE"),
    ("A", "A"),
    ("SAT",),
]


@pytest.fixture(scope="module")
def discounts(texts):
    """Discounts of each order, from counts taken one by one."""
    found = []
    for n in (1, 2, 3):
        grams = itertools.product(["<s>", *all_words(texts)], repeat=n)
        counts = [adjusted(texts, gram, 3) for gram in grams if gram != ("<s>",)]
        n1, n2, n3, n4 = (counts.count(c) for c in (1, 2, 3, 4))
        ds = FALLBACK
        if n1 and n2 and n3 and n4:
            y = n1 / (n1 + 2 * n2)
            ds = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        found.append(ds if all(0 <= d <= c + 1 for c, d in enumerate(ds)) else FALLBACK)
    return found


@pytest.mark.parametrize("history", HISTORIES, ids=" ".join)
def test_probabilities_are_those_of_the_definition(texts, model, discounts, history):
    for word in ["CAT", "THE", "</s>", "<unk>"]:
        expected = probability(texts, word, history, 3, discounts)
        assert asked(model, word, history) == pytest.approx(expected, rel=1e-5)


def test_not_all_orders_need_the_fallback(discounts):
    assert any(found != FALLBACK for found in discounts)


@pytest.mark.parametrize("history", HISTORIES, ids=" ".join)
def test_probabilities_of_all_words_sum_to_one(texts, model, history):
    words = [*all_words(texts), "<unk>"]
    total = sum(asked(model, word, history) for word in words)
    assert total == pytest.approx(1, abs=1e-5)


def test_discounts_are_those_of_chen_and_goodman():
    """n1..n4 = 10, 5, 3, 2: Y = 1/2."""
    table = dict(enumerate([1] * 10 + [2] * 5 + [3] * 3 + [4] * 2))
    assert _discounts(table) == pytest.approx((1 - 0.5, 2 - 0.9, 3 - 4 / 3))


def test_too_few_counts_get_the_fallback():
    assert _discounts({"a": 1, "b": 2}) == FALLBACK


def test_seen_texts_are_more_probable_than_shuffled_ones(texts, model):
    shuffled = [
        " ".join(random.Random(0).sample(t.split(), len(t.split()))) for t in texts
    ]
    assert sum(map(model.score, texts)) > sum(map(model.score, shuffled)) + 100


@pytest.mark.parametrize("marker", ["<s>", "</s>", "<unk>"])
def test_a_text_with_a_marker_is_refused(marker):
    with pytest.raises(BadInput, match=f"holds {marker}"):
        estimate(["A B", f"A {marker} B"], 2)


def test_the_command_writes_a_model_and_counts(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("ONE TWO\nTWO ONE\n")
    main(["ngram", str(tmp_path / "a.arpa"), str(tmp_path / "a.txt"), "--order", "2"])
    printed = capsys.readouterr().out
    assert printed == f"{tmp_path / 'a.arpa'}: 2 sentences, 5 1-grams, 6 2-grams\n"
    assert math.isfinite(kenlm.Model(str(tmp_path / "a.arpa")).score("ONE TWO"))


def test_an_order_that_kenlm_cannot_read_is_refused(tmp_path, fails):
    fails(lambda: main(["ngram", "a.arpa", str(tmp_path), "--order", "7"]), "2 to 6")
