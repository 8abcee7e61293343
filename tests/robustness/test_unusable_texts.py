"""Fine-tuning on texts that do not belong to its tokens or to its audio."""

import pytest
from small_runs import finetune, log

pytestmark = pytest.mark.faults


def transcribe(corpus, split, change):
    for path in (corpus / split).rglob("*.trans.txt"):
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [line.partition(" ") for line in lines]
        text = "".join(f"{name} {change(words)}\n" for name, _, words in rows)
        path.write_text(text, encoding="utf-8")


def test_tokens_of_a_refused_start_are_not_used_for_another_corpus(
    corpus, tmp_path, fails
):
    run = tmp_path / "run"
    run.mkdir()  # by itself, it would be removed
    # The decoder is made after the tokens.
    fails(lambda: finetune(corpus, run, n_mels=40, lm_path="x.arpa"), "no use for")
    assert (run / "characters.json").is_file()
    transcribe(corpus, "train", str.lower)
    finetune(corpus, run, n_mels=40)
    assert "e" in (run / "characters.json").read_text(encoding="utf-8")


def test_texts_of_another_alphabet_are_refused_in_a_resume(corpus, tmp_path, fails):
    run = tmp_path / "run"
    finetune(corpus, run, n_mels=40)
    transcribe(corpus, "train", lambda words: words.replace("O", "Ø"))
    fails(
        lambda: finetune(corpus, run, n_mels=40, optimizer_step_limit=5),
        "'train'",
        "'Ø'",
        "--output_folder",
    )


def test_validation_texts_of_other_letters_only_are_refused(corpus, tmp_path, fails):
    transcribe(corpus, "dev", lambda words: words.replace(" ", "").lower())
    fails(
        lambda: finetune(corpus, tmp_path / "run", n_mels=40),
        "'dev' have letters that are no tokens",
        "no text is left",
        "such as capitals",
    )


def test_letters_and_long_texts_are_named_once_a_split(corpus, tmp_path):
    transcribe(corpus, "test", lambda words: words.replace("O", "Ø"))
    (corpus / "test/31/1/31-1.trans.txt").write_text("31-1-0000 42\n")
    transcribe(corpus, "dev", lambda words: f"{words} QQ" + " ONE" * 900)
    (corpus / "dev/21/1/21-1.trans.txt").write_text("21-1-0000 ONE\n")
    finetune(corpus, tmp_path / "run", n_mels=40)
    told = log(tmp_path / "run")
    assert told.count("'test' have letters") == 1 and "'Ø'" in told
    assert told.count("'dev' have letters") == 1 and "'Q'" in told
    assert told.count("2 of 3 texts of the split 'dev' have more tokens") == 1
