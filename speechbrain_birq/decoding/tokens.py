"""Turn texts into token numbers and back; number 0 is always CTC's blank."""

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import sentencepiece
import torch

from speechbrain_birq.checkpoints import files
from speechbrain_birq.checkpoints.plain_files import corruption_named, read_json
from speechbrain_birq.checkpoints.published import find_run
from speechbrain_birq.errors import BadInput

BLANK = "<blank>"
ANOTHER_RUN = "take another run folder"
FILES = {"characters": "characters.json", "sentencepiece": "sentencepiece.model"}


class CharacterTokens:
    """Tokens that are the characters of the training texts, the space included.

    Arguments
    ---------
    vocabulary : sequence
        The blank, then the characters.

    Example
    -------
    >>> tokens = CharacterTokens.from_texts(["AB A"])
    >>> tokens.vocabulary, tokens.encode("A B").tolist()
    (['<blank>', ' ', 'A', 'B'], [2, 1, 3])
    >>> tokens.decode([2, 1, 3])
    'A B'
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = list(vocabulary)
        self.index = {token: i for i, token in enumerate(self.vocabulary)}

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> "CharacterTokens":
        """Make tokens of the characters of all texts."""
        return cls([BLANK, *sorted({" ", *"".join(texts)})])

    def __len__(self):
        return len(self.vocabulary)

    def encode(self, text: str) -> torch.Tensor:
        """Return (U,) int64; unknown characters are skipped."""
        known = [self.index[c] for c in text if c in self.index]
        return torch.tensor(known, dtype=torch.long)

    def unknown(self, text: str) -> set[str]:
        """Return the letters of a text that are no tokens."""
        return set(text) - self.index.keys()

    def decode(self, numbers: Sequence[int]) -> str:
        """Return the text of token numbers."""
        return "".join(self.vocabulary[n] for n in numbers)

    def save(self, folder: str | Path) -> None:
        """Write the vocabulary into a run folder."""
        text = json.dumps(self.vocabulary, ensure_ascii=False)
        files.write(Path(folder) / FILES["characters"], text)


class SentencePieceTokens:
    """Tokens that are the pieces of a sentencepiece model, after the blank.

    Arguments
    ---------
    path : str or Path
        The ``.model`` file.
    """

    def __init__(self, path: str | Path) -> None:
        self.model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        pieces = [self.model.id_to_piece(i) for i in range(len(self.model))]
        self.vocabulary = [BLANK, *pieces]

    @classmethod
    def from_texts(
        cls, texts: Sequence[str], num_tokens: int, folder: str | Path
    ) -> "SentencePieceTokens":
        """Train a unigram model of ``num_tokens`` tokens, the blank included.

        Raises
        ------
        BadInput
            If the texts do not yield this many.
        """
        prefix = Path(folder) / "sentencepiece"
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(texts),
                model_prefix=str(prefix),
                vocab_size=num_tokens - 1,
                character_coverage=1.0,
                # NFKC would write other letters than those that texts are scored with.
                normalization_rule_name="identity",
                bos_id=-1,
                eos_id=-1,
                minloglevel=2,
            )
        except RuntimeError as error:
            raise BadInput(
                f"sentencepiece cannot make {num_tokens} tokens of {len(texts)} texts: "
                f"change num_tokens ({str(error).strip().splitlines()[-1]})"
            ) from error
        return cls(prefix.with_suffix(".model"))

    def __len__(self):
        return len(self.vocabulary)

    def encode(self, text: str) -> torch.Tensor:
        """Return (U,) int64."""
        return torch.tensor(self.model.encode(text), dtype=torch.long) + 1

    def unknown(self, text: str) -> set[str]:
        """Return the letters of a text that no piece has."""
        numbers = self.model.encode(text)
        if self.model.unk_id() not in numbers:
            return set()
        pieces = self.model.encode(text, out_type=str)
        pairs = zip(pieces, numbers, strict=True)
        return set().union(*(p for p, n in pairs if n == self.model.unk_id()))

    def decode(self, numbers: Sequence[int]) -> str:
        """Return the text of token numbers."""
        return self.model.decode([int(n) - 1 for n in numbers])

    def save(self, folder: str | Path) -> None:
        """Write the model into a run folder."""
        path = Path(folder) / FILES["sentencepiece"]
        files.write(path, self.model.serialized_model_proto())


Tokens = CharacterTokens | SentencePieceTokens


def make_tokens(
    kind: str, texts: Sequence[str], num_tokens: int, folder: str | Path
) -> Tokens:
    """Make tokens of the training texts and write them into the run folder.

    Tokens that a refused or killed start has left there are replaced: only those of a
    checkpoint count, see ``load_tokens``. One rank alone may call this.

    Arguments
    ---------
    kind : str
        ``characters`` or ``sentencepiece``.
    texts : sequence
        Transcripts of the training split.
    num_tokens : int
        V, for sentencepiece.
    folder : str or Path
        The run folder.

    Raises
    ------
    BadInput
        If ``kind`` is neither.
    """
    if kind not in FILES:
        raise BadInput(f"tokens must be characters or sentencepiece, got {kind!r}")
    _remove_tokens(folder)
    tokens: Tokens = (
        CharacterTokens.from_texts(texts)
        if kind == "characters"
        else SentencePieceTokens.from_texts(texts, num_tokens, folder)
    )
    tokens.save(folder)
    logging.getLogger(__name__).info("%d tokens (%s)", len(tokens), kind)
    return tokens


def store_tokens(tokens: Tokens, folder: str | Path) -> Tokens:
    """Replace the tokens in a run folder by those of another run; return them."""
    _remove_tokens(folder)
    tokens.save(folder)
    return tokens


def _remove_tokens(folder):
    for name in FILES.values():
        (Path(folder) / name).unlink(missing_ok=True)


def is_finetuned(folder: str | Path) -> bool:
    """Return whether a run folder is that of a fine-tuning: it has tokens."""
    return any((Path(folder) / name).is_file() for name in FILES.values())


def load_tokens(folder: str | Path) -> Tokens:
    """Load the tokens of a run folder.

    Raises
    ------
    BadInput
        If there are none, or their file is corrupt.
    """
    readers: dict[str, Callable[[Path], Tokens]] = {
        "characters": _read_characters,
        "sentencepiece": _read_pieces,
    }
    for kind, name in FILES.items():
        path = Path(folder) / name
        if path.is_file():
            return readers[kind](path)
    what = "holds no tokens" if find_run(folder).is_dir() else "is no folder"
    raise BadInput(f"{folder} {what}: give the output_folder of a fine-tuning")


def _read_characters(path):
    vocabulary = read_json(path, ANOTHER_RUN, kind=list)
    texts = all(isinstance(token, str) for token in vocabulary)
    with corruption_named(path, ANOTHER_RUN):
        if vocabulary[:1] != [BLANK] or not texts:
            raise ValueError(f"no list of texts after {BLANK}")
    return CharacterTokens(vocabulary)


def _read_pieces(path):
    with corruption_named(path, ANOTHER_RUN):
        try:
            return SentencePieceTokens(path)
        except RuntimeError as error:  # sentencepiece's only class
            raise ValueError(str(error)) from error
