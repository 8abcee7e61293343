"""birq transcribe: text, JSON, hypotheses, folders."""

import json

import pytest

from speechbrain_birq.cli.main import main
from speechbrain_birq.inference import Recogniser


@pytest.fixture
def audio(corpus):
    return sorted(
        str(p) for p in (corpus / "test").rglob("*-1-*") if p.suffix != ".txt"
    )


def run(run_folder, *words):
    main(["transcribe", str(run_folder), *map(str, words)])


def test_a_line_a_file_in_the_order_that_was_given(run_folder, audio, capsys):
    run(run_folder, *audio, "--batch_seconds", 1)
    recogniser = Recogniser(run_folder)
    expected = [f"{file}\t{recogniser.transcribe(file)}" for file in audio]
    assert capsys.readouterr().out.splitlines() == expected


def test_a_folder_is_all_of_its_audio(run_folder, corpus, audio, capsys):
    run(run_folder, corpus / "test")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == audio


def test_json_has_words_times_and_confidences(run_folder, audio, capsys):
    run(run_folder, *audio, "--json")
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    transcripts = Recogniser(run_folder).transcripts_of(audio)
    for file, line, transcript in zip(audio, found, transcripts, strict=True):
        assert list(line) == ["file", "text", "confidence", "words", "nbest"]
        assert line["file"] == file
        assert line["text"] == transcript.text == line["nbest"][0]["text"]
        assert " ".join(word["word"] for word in line["words"]) == line["text"]
        for word, right in zip(line["words"], transcript.words, strict=True):
            assert list(word) == ["word", "start", "end", "confidence"]
            assert word["start"] == pytest.approx(right.start, abs=1e-3)
            assert 0 <= word["start"] < word["end"]
            assert 0 < word["confidence"] <= 1


def test_nbest_searches_with_a_beam(run_folder, audio, capsys):
    run(run_folder, audio[0], "--json", "--nbest", 3, "--beam_size", 4)
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert 1 < len(line["nbest"]) <= 3
    assert line["nbest"][0]["text"] == line["text"]
    assert " ".join(word["word"] for word in line["words"]) == line["text"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--nbest", "2"], "--json"),
        (["--json", "--nbest", "0"], "1 or more"),
        (["--json", "--nbest", "2", "--decoding", "greedy"], "--decoding beam"),
        (["--lm", "a.arpa", "--decoding", "greedy"], "a.arpa"),
        (["--left", "2"], "--chunk"),
        (["--chunk", "4", "--json"], "--json"),
        (["--chunk", "4", "--alpha", "0"], "--alpha"),
        (["--chunk", "4", "--beam_size", "7"], "--beam_size"),
        (["--alpha", "1"], "--lm"),
        (["--beta", "1", "--decoding", "beam"], "--lm"),
        (["--beam_size", "7"], "--decoding beam"),
        (["--beam_size", "0", "--decoding", "beam"], "1 or more"),
        (["--batch_seconds", "0"], "batch_seconds"),
        (["--device", "nowhere"], "'nowhere'"),
    ],
)
def test_options_that_do_not_fit_are_refused(run_folder, audio, fails, options, word):
    fails(lambda: run(run_folder, audio[0], *options), word)


def test_batches_give_the_transcripts_of_each_alone(run_folder, audio):
    recogniser = Recogniser(run_folder)
    together = recogniser.transcripts_of(audio)
    for file, found in zip(audio, together, strict=True):
        alone = recogniser.transcript(file)
        assert found.text == alone.text == recogniser.transcribe(file)
        assert found.confidence == pytest.approx(alone.confidence, abs=1e-5)
        for word, right in zip(found.words, alone.words, strict=True):
            assert word[:3] == right[:3]
            assert word.confidence == pytest.approx(right.confidence, abs=1e-5)
