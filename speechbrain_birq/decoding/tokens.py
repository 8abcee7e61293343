"""Texts to token numbers and back; 0 is always CTC's blank."""

import json
import logging
from pathlib import Path

import sentencepiece
import torch

from speechbrain_birq.checkpoints import files
from speechbrain_birq.errors import BadInput

BLANK = "<blank>"
FILES = {"characters": "characters.json", "sentencepiece": "sentencepiece.model"}


class CharacterTokens:
    """The characters of the training texts, the space among them.

    Arguments
    ---------
    vocabulary : list
        Starts with the blank.

    Example
    -------
    >>> tokens = CharacterTokens.from_texts(["AB A"])
    >>> tokens.vocabulary, tokens.encode("A B").tolist()
    (['<blank>', ' ', 'A', 'B'], [2, 1, 3])
    >>> tokens.decode([2, 1, 3])
    'A B'
    """

    def __init__(self, vocabulary):
        self.vocabulary = list(vocabulary)
        self.index = {token: i for i, token in enumerate(self.vocabulary)}

    @classmethod
    def from_texts(cls, texts):
        """Collect the characters of all texts."""
        return cls([BLANK, *sorted({" ", *"".join(texts)})])

    def __len__(self):
        return len(self.vocabulary)

    def encode(self, text: str) -> torch.Tensor:
        """(U,) int64; characters that were never seen are left out."""
        known = [self.index[c] for c in text if c in self.index]
        return torch.tensor(known, dtype=torch.long)

    def decode(self, numbers) -> str:
        """Text of token numbers."""
        return "".join(self.vocabulary[n] for n in numbers)

    def save(self, folder) -> None:
        """Keep the vocabulary in a run folder."""
        text = json.dumps(self.vocabulary, ensure_ascii=False)
        files.write(Path(folder) / FILES["characters"], text)


class SentencePieceTokens:
    """Subwords of a sentencepiece model, shifted by one to make room for the blank.

    Arguments
    ---------
    path : str or Path
        The ``.model`` file.
    """

    def __init__(self, path):
        self.model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        pieces = [self.model.id_to_piece(i) for i in range(len(self.model))]
        self.vocabulary = [BLANK, *pieces]

    @classmethod
    def from_texts(cls, texts, num_tokens, folder):
        """Train a unigram model of ``num_tokens`` tokens, the blank included.

        Raises
        ------
        BadInput
            If the texts do not give that many.
        """
        prefix = Path(folder) / "sentencepiece"
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(texts),
                model_prefix=str(prefix),
                vocab_size=num_tokens - 1,
                character_coverage=1.0,
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
        """(U,) int64"""
        return torch.tensor(self.model.encode(text), dtype=torch.long) + 1

    def decode(self, numbers) -> str:
        """Text of token numbers."""
        return self.model.decode([int(n) - 1 for n in numbers])

    def save(self, folder) -> None:
        """Keep the model in a run folder."""
        path = Path(folder) / FILES["sentencepiece"]
        files.write(path, self.model.serialized_model_proto())


def make_tokens(kind, texts, num_tokens, folder):
    """Tokens of the training texts, saved in the run folder.

    Arguments
    ---------
    kind : str
        ``characters`` or ``sentencepiece``.
    texts : list
        Of the training split.
    num_tokens : int
        For sentencepiece.
    folder : str or Path
        The run folder; tokens that are there already are taken.

    Raises
    ------
    BadInput
        If ``kind`` is neither, or the folder holds tokens of the other kind.
    """
    if kind not in FILES:
        raise BadInput(f"tokens must be characters or sentencepiece, got {kind!r}")
    there = [known for known, name in FILES.items() if (Path(folder) / name).is_file()]
    if there == [kind]:
        return load_tokens(folder)
    if there:
        raise BadInput(
            f"{folder} holds tokens of the kind {' and '.join(there)}, not {kind} "
            f"alone: take another output_folder"
        )
    if kind == "characters":
        tokens = CharacterTokens.from_texts(texts)
    else:
        tokens = SentencePieceTokens.from_texts(texts, num_tokens, folder)
    tokens.save(folder)
    logging.getLogger(__name__).info("%d tokens (%s)", len(tokens), kind)
    return tokens


def load_tokens(folder):
    """Tokens of a run folder.

    Raises
    ------
    BadInput
        If there are none, or their file is damaged.
    """
    readers = {"characters": _read_characters, "sentencepiece": SentencePieceTokens}
    for kind, name in FILES.items():
        path = Path(folder) / name
        if path.is_file():
            try:
                return readers[kind](path)
            except (ValueError, RuntimeError, OSError) as error:
                reason = " ".join(str(error).split())[:200]
                raise BadInput(
                    f"{path} is damaged ({reason}): take another run folder"
                ) from error
    raise BadInput(f"{folder} holds no tokens: it is not the folder of a fine-tuning")


def _read_characters(path):
    vocabulary = json.loads(path.read_text(encoding="utf-8"))
    is_list = isinstance(vocabulary, list) and vocabulary[:1] == [BLANK]
    if not is_list or not all(isinstance(token, str) for token in vocabulary):
        raise ValueError(f"no list of texts after {BLANK}")
    return CharacterTokens(vocabulary)
