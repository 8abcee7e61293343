"""Language models of kenlm: read, checked against the tokens, used by the beam."""

import gzip
import importlib.util
import json
from pathlib import Path

import pytest
import torch

from speechbrain_birq.cli.main import main
from speechbrain_birq.data.corpora.librispeech import prepare_librispeech
from speechbrain_birq.decoding.decoders import BeamDecoder, GreedyDecoder, make_decoder
from speechbrain_birq.decoding.language_model import (
    check_alphabet,
    find_words,
    read_words,
)
from speechbrain_birq.decoding.tokens import CharacterTokens, SentencePieceTokens
from speechbrain_birq.diagnostics.lm_weights import tune_weights
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference import Recogniser

for package in ("kenlm", "pygtrie"):
    pytest.importorskip(package, reason='pip install -e ".[lm]"')

DATA = Path(__file__).parent / "data"
ARPA = DATA / "numbers.arpa"
BINARIES = [DATA / "numbers.probing.binary", DATA / "numbers.trie.binary"]
WORDS = sorted("ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE".split())
TOKENS = CharacterTokens.from_texts(["ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE"])


def spoken(text, doubt, instead):
    """Frames sure of a text but for one letter, where another is as good or better."""
    index = TOKENS.index
    rows = []
    for place, letter in enumerate(text):
        probabilities = torch.full((len(TOKENS),), 1e-6)
        probabilities[index[letter]] = 0.45 if place == doubt else 0.99
        if place == doubt:
            probabilities[index[instead]] = 0.55
        rows += [probabilities, torch.full((len(TOKENS),), 1e-6)]
        rows[-1][0] = 0.99
    return torch.stack(rows).log()[None], torch.tensor([len(rows)])


@pytest.mark.parametrize("path", [ARPA, *BINARIES], ids=lambda p: p.name)
def test_the_vocabulary_is_read_from_every_format(path):
    assert read_words(path) == WORDS


def test_words_without_a_back_off_weight_are_words_too(tmp_path):
    text = ARPA.read_text().replace("\tTWO\t-0.3010300", "\tTWO")
    (tmp_path / "a.arpa").write_text(text)
    assert "TWO" in read_words(tmp_path / "a.arpa")


@pytest.mark.parametrize("path", [ARPA, *BINARIES], ids=lambda p: p.name)
def test_the_language_model_decides_where_the_frames_do_not(path):
    frames = spoken("ONE TWO", doubt=5, instead="H")
    assert GreedyDecoder(TOKENS)(*frames) == ["ONE THO"]
    assert make_decoder("beam", TOKENS, beam_size=10)(*frames) == ["ONE THO"]
    with_lm = make_decoder("beam", TOKENS, beam_size=10, lm_path=str(path))
    assert with_lm(*frames) == ["ONE TWO"]


def test_a_binary_scores_as_its_arpa_does():
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.randn(3, 30, len(TOKENS), generator=generator).log_softmax(-1)
    lengths = torch.tensor([30, 30, 17])
    arpa, *binaries = (
        BeamDecoder(TOKENS, beam_size=20, lm_path=str(path))(log_probs, lengths)
        for path in (ARPA, *BINARIES)
    )
    assert all(found == arpa for found in binaries)


def test_new_weights_are_those_of_a_new_decoder():
    frames = spoken("ONE TWO", doubt=5, instead="H")
    decoder = BeamDecoder(TOKENS, beam_size=10, lm_path=str(ARPA))
    decoder.weigh(0.0, 0.5)
    assert decoder(*frames) == BeamDecoder(
        TOKENS, beam_size=10, lm_path=str(ARPA), alpha=0.0, beta=0.5
    )(*frames)
    assert (decoder.searcher.lm.alpha, decoder.searcher.lm.beta) == (0, 0.5)


def test_a_model_of_another_alphabet_is_refused(tmp_path):
    (tmp_path / "lower.arpa").write_text(ARPA.read_text().lower())
    with pytest.raises(BadInput) as caught:
        make_decoder("beam", TOKENS, lm_path=str(tmp_path / "lower.arpa"))
    message = str(caught.value)
    assert "another alphabet" in message
    assert "0 % of its words, not, say, 'eight'" in message
    assert "EFGHINORSTUVWX" in message


def test_a_few_strange_words_do_no_harm():
    check_alphabet("x.arpa", [*WORDS, "naïve", "CAFÉ"], TOKENS)


def test_half_of_the_words_must_be_spelled():
    strange = [word.lower() for word in WORDS]
    check_alphabet("x.arpa", [*WORDS, *strange], TOKENS)
    with pytest.raises(BadInput, match="47 %"):
        check_alphabet("x.arpa", [*WORDS, *strange, "zero"], TOKENS)


def test_pieces_are_an_alphabet_too(tmp_path):
    texts = [f"{a} {b}" for a in WORDS for b in WORDS]
    pieces = SentencePieceTokens.from_texts(texts, 25, tmp_path)
    check_alphabet("x.arpa", WORDS, pieces)
    with pytest.raises(BadInput, match="another alphabet"):
        check_alphabet("x.arpa", [word.lower() for word in WORDS], pieces)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no language model .*No such file"),
        (b"", "is no language model"),
        (b"RIFF....WAVE", "is no language model"),
        (gzip.compress(b"\\data\\"), "gunzip"),
        (ARPA.read_bytes()[:60], "truncated"),
        (BINARIES[0].read_bytes()[:600], "truncated"),
    ],
    ids=["missing", "empty", "audio", "gzip", "half arpa", "half binary"],
)
def test_a_file_that_is_no_language_model_is_named(tmp_path, content, words):
    path = tmp_path / "x.arpa"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=words) as caught:
        find_words(path, TOKENS)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_kenlm_cannot_read_is_named(tmp_path):
    path = tmp_path / "x.arpa"
    path.write_text(ARPA.read_text().partition("\\2-grams")[0] + "\\2-grams:\n")
    with pytest.raises(BadInput, match="kenlm cannot read") as caught:
        make_decoder("beam", TOKENS, lm_path=str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("package", ["kenlm", "pygtrie"])
def test_a_missing_package_is_named_with_its_command(monkeypatch, package):
    monkeypatch.setattr(
        "speechbrain_birq.decoding.language_model.find_spec",
        lambda name: None if name == package else importlib.util.find_spec(name),
    )
    with pytest.raises(BadInput, match=r'pip install "speechbrain_birq\[lm\]"'):
        make_decoder("beam", TOKENS, lm_path=str(ARPA))


def test_a_language_model_that_would_not_be_used_is_refused():
    with pytest.raises(BadInput, match="add --decoding beam"):
        make_decoder("greedy", TOKENS, lm_path=str(ARPA))


# Weights tuned on dev.


@pytest.fixture
def scored_run(run_folder, corpus):
    """A fine-tuned run that knows where dev lies."""
    prepare_librispeech(corpus, ["dev"], run_folder / "manifests")
    return run_folder


def test_each_pair_of_weights_gets_the_rates_of_its_own_decoder(scored_run):
    grid = tune_weights(
        *(scored_run, str(ARPA)),
        split="dev",
        alphas=[0.0, 1.0],
        betas=[-2.0, 5.0],
        beam_size=5,
    )
    assert [found[:2] for found in grid] == [(0, -2), (0, 5), (1, -2), (1, 5)]
    recogniser = Recogniser(scored_run)
    rows = list((scored_run / "manifests" / "dev.csv").read_text().splitlines())[1:]
    for found in grid:
        recogniser.decoder = BeamDecoder(
            recogniser.tokens,
            beam_size=5,
            lm_path=str(ARPA),
            alpha=found.alpha,
            beta=found.beta,
        )
        errors = 0
        for row in rows:
            _, _, wav, _, text = row.split(",")
            errors += word_errors(recogniser.transcribe(wav).split(), text.split())
        assert found.wer == pytest.approx(100 * errors / (3 * len(rows)))
    assert len({found.wer for found in grid}) > 1


def word_errors(hypothesis, reference):
    """Edit distance."""
    last = list(range(len(reference) + 1))
    for i, word in enumerate(hypothesis, 1):
        row = [i]
        for j, wanted in enumerate(reference, 1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (word != wanted)))
        last = row
    return last[-1]


def test_the_command_prints_a_table_and_keeps_the_best(scored_run, capsys):
    main(
        f"tune-lm {scored_run} --lm_path {ARPA} --split dev --alphas 0.5 --betas 0 1 "
        f"--beam_size 5 --utterances 2".split()
    )
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 2 + 1
    rates = {float(line.split()[1]): float(line.split()[2]) for line in lines[1:3]}
    kept = json.loads((scored_run / "results.json").read_text())["lm_weights"]
    assert kept["split"] == "dev"
    assert round(kept["wer"], 2) == min(rates.values()) == rates[kept["beta"]]
    assert lines[-1] == f"best: --lm_alpha 0.5 --lm_beta {kept['beta']:g}"


def test_a_split_that_the_run_does_not_know_is_named(scored_run, fails):
    command = f"tune-lm {scored_run} --lm_path {ARPA} --split eval".split()
    fails(lambda: main(command), "'eval'", "it has dev")


def test_a_recording_that_cannot_be_read_is_left_out(scored_run, caplog, fails):
    manifest = scored_run / "manifests" / "dev.csv"
    head, first, *others = manifest.read_text().splitlines()
    gone = first.replace(".flac", ".gone")
    manifest.write_text("\n".join([head, gone, *others]))
    options = dict(split="dev", alphas=[0.5], betas=[0.0], beam_size=5)
    (found,) = tune_weights(scored_run, str(ARPA), **options)
    assert "left out: no audio file" in caplog.text
    manifest.write_text("\n".join([head, *others]))
    assert [found] == tune_weights(scored_run, str(ARPA), **options)
    manifest.write_text("\n".join([head, gone]))
    command = f"tune-lm {scored_run} --lm_path {ARPA} --split dev".split()
    fails(lambda: main(command), "no recording of dev", "repair them")


def test_numbers_that_make_no_sense_are_refused(scored_run, fails):
    command = f"tune-lm {scored_run} --lm_path {ARPA} --beam_size 0".split()
    fails(lambda: main(command), "--beam_size 0")
