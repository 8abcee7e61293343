"""Check a kenlm n-gram (ARPA or binary) before it is used: words, alphabet."""

import mmap
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from speechbrain_birq.decoding.tokens import Tokens
from speechbrain_birq.errors import BadInput

BINARY = b"mmap lm http://kheafield.com/code"  # kenlm's own first bytes
GZIP = b"\x1f\x8b"
NOT_WORDS = {"<s>", "</s>", "<unk>", "<UNK>"}
ENOUGH = 0.5  # share of the words that tokens must be able to spell


def read_words(path: str | Path) -> list[str]:
    """Read the vocabulary of a language model, sorted.

    SpeechBrain reads it from ARPA files only, and there only words that have a
    back-off weight; any other word would be scored as unknown.

    Arguments
    ---------
    path : str or Path
        ARPA or kenlm binary file, recognized by its first bytes, not by its name.

    Returns
    -------
    list
        Words without the markers of sentences and of unknown words.

    Raises
    ------
    BadInput
        If the file is missing, compressed, truncated or no language model.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(len(BINARY))
    except OSError as error:
        raise BadInput(
            f"no language model {path} ({error.strerror}): give an ARPA or kenlm "
            f"binary file"
        ) from error
    if start.startswith(GZIP):
        raise BadInput(f"{path} is compressed: run gunzip on it, give what comes out")
    words = _binary_words(path) if start == BINARY else _arpa_words(path)
    words = sorted(set(words) - NOT_WORDS)
    if not words:
        raise BadInput(
            f"{path} is no language model, or it is truncated: no words in it; give an "
            f"ARPA file or what kenlm's build_binary makes of one"
        )
    return words


def _arpa_words(path):
    """Second column of the section of unigrams."""
    words, inside = [], False
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("\\"):
                if inside:
                    return words
                inside = line.strip() == "\\1-grams:"
            elif inside and line.strip():
                words += line.split()[1:2]
    return []


def _binary_words(path):
    """kenlm appends its vocabulary, from <unk> on, each word closed by a zero byte."""
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        start = content.rfind(b"<unk>\0")
        tail = content[start:] if start >= 0 else b""
    return tail.decode("utf-8", errors="replace").split("\0")[:-1]


def check_alphabet(path: str | Path, words: Sequence[str], tokens: Tokens) -> None:
    """Refuse a language model whose words the tokens cannot spell.

    Arguments
    ---------
    path : str or Path
        File of the language model, for the message.
    words : sequence
        Vocabulary of the language model.
    tokens : CharacterTokens or SentencePieceTokens

    Raises
    ------
    BadInput
        If fewer than half of the words can be spelled.
    """
    sample = words[:: max(1, len(words) // 5000)]
    strange = [word for word in sample if _respelled(word, tokens) != word]
    share = 1 - len(strange) / len(sample)
    if share < ENOUGH:
        letters = "".join(sorted({c for t in tokens.vocabulary[1:] for c in t.strip()}))
        raise BadInput(
            f"the language model {path} is of another alphabet: the recogniser's "
            f"tokens can spell {100 * share:.0f} % of its words, not, say, "
            f"{strange[0]!r}; it writes with {letters[:60]}: give a model of texts "
            f"written so"
        )


def _respelled(word, tokens):
    return tokens.decode(tokens.encode(word).tolist()).strip()


def find_words(path: str | Path, tokens: Tokens) -> list[str]:
    """Read the words of a language model, and refuse one that does not fit the tokens.

    Raises
    ------
    BadInput
        If it does not fit, or kenlm or pygtrie is not installed.
    """
    if not all(map(find_spec, ("kenlm", "pygtrie"))):  # SpeechBrain's scorer
        raise BadInput(
            "a language model needs kenlm and pygtrie: "
            'pip install "speechbrain_birq[lm]"'
        )
    words = read_words(Path(path))
    check_alphabet(path, words, tokens)
    return words
