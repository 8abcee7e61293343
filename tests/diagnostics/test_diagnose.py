"""birq diagnose: figures against counting in plain Python, files, refusals."""

import json
import math
import os
import shutil
from collections import Counter
from types import SimpleNamespace

import pytest
import ruamel.yaml
import torch
from small_runs import pretrain
from test_phones import write_split

from speechbrain_birq.checkpoints import files
from speechbrain_birq.checkpoints.run_folder import best_checkpoint
from speechbrain_birq.cli.main import main
from speechbrain_birq.data.corpora.librispeech import find_utterances
from speechbrain_birq.data.pipeline import AudioReader
from speechbrain_birq.diagnostics.diagnose import _row, diagnose_run
from speechbrain_birq.diagnostics.label_sets import KMeans, LabelSets
from speechbrain_birq.diagnostics.phones import Interval, phones_of_frames, read_phones
from speechbrain_birq.diagnostics.spoken import AlignedTokens, token_times
from speechbrain_birq.diagnostics.table import table
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference.pretrained import load_labeller
from speechbrain_birq.models.frontend import FrontEnd

PICTURES = {"codes_and_units", "usage", "layers", "raster", "training"}
CODES = 16


@pytest.fixture(scope="module")
def phones(tmp_path_factory):
    """Folder above the split "test" of tones with times."""
    folder = tmp_path_factory.mktemp("phones")
    write_split(folder / "test", seed=1)
    return folder


@pytest.fixture(scope="module")
def birq(_corpus_template, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "birq"
    pretrain(_corpus_template, folder, log_interval=1)
    return folder


@pytest.fixture(scope="module")
def diagnosis(birq, phones, tmp_path_factory):
    folder = tmp_path_factory.mktemp("diagnosis")
    return diagnose_run(birq, phones, "test", output_folder=folder), folder


def measured(birq, phones):
    """Codes of the model itself and phones, of every second utterance."""
    model, times = load_labeller(birq, 1), read_phones(phones / "test")
    by_name = {path.stem: intervals for path, intervals in times.items()}
    for utterance in find_utterances(phones, "test")[1::2]:
        wav = AudioReader(16000)(utterance.wav)[None]
        labels = model.labels(wav, torch.ones(1))
        length, frontend = labels.lengths.item(), model.frontend
        hop = frontend.frame_ms / frontend.stack
        spoken = phones_of_frames(by_name[utterance.ID], length, frontend.frame_ms, hop)
        yield labels, spoken


@pytest.mark.parametrize("kind", ["anchor", "enhanced"])
def test_figures_are_those_of_the_model_s_labels(birq, phones, diagnosis, kind):
    row, frames = diagnosis[0].rows[kind], []
    for labels, spoken in measured(birq, phones):
        frames += zip(getattr(labels, kind)[0].tolist(), spoken, strict=True)
    assert diagnosis[0].frames == len(frames)
    groups = range(len(frames[0][0]))
    used, pure, top = 0, 0, 0
    for group in groups:
        codes = Counter(codes[group] for codes, _ in frames)
        pairs = Counter((codes[group], phone) for codes, phone in frames)
        used += len(codes)
        top += max(codes.values())
        pure += sum(
            max(n for (c, _), n in pairs.items() if c == code) for code in codes
        )
    assert row["used_codes"] == pytest.approx(used / len(groups))
    assert row["top_share"] == pytest.approx(top / len(groups) / len(frames))
    assert row["phone_purity"] == pytest.approx(pure / len(groups) / len(frames))


def test_there_is_a_row_a_layer_and_k_means(diagnosis):
    layers = [f"layer {number}" for number in range(3)]
    k_means = ["k-means, frames", "k-means, layer 1"]
    assert list(diagnosis[0].rows) == ["anchor", "enhanced", *layers, *k_means]


def test_k_means_of_pitches_finds_the_phones(diagnosis):
    row = diagnosis[0].rows["k-means, frames"]
    assert row["phone_purity"] > 0.85
    assert row["chance"] < row["pnmi"] / 2


def test_every_picture_is_drawn(diagnosis):
    drawn = {path.stem: path.read_bytes() for path in diagnosis[1].glob("*.png")}
    assert drawn.keys() == PICTURES
    assert all(content.startswith(b"\x89PNG") for content in drawn.values())


def test_the_file_holds_what_was_measured(diagnosis):
    kept = json.loads((diagnosis[1] / "diagnosis.json").read_text(encoding="utf-8"))
    assert kept == diagnosis[0]._asdict()


def test_the_table_has_a_line_a_label_set_and_the_number_of_frames(diagnosis):
    head, *lines = table(diagnosis[0]).splitlines()
    assert "phone pur." in head
    names = list(diagnosis[0].rows)
    assert [line[:18].strip() for line in lines[: len(names)]] == names
    assert any(f"{diagnosis[0].frames} frames of 4 utt" in line for line in lines)


def test_layer_k_has_the_statistics_of_the_fitting_half(birq, phones, diagnosis):
    """Independently: mean and variance of each channel over those frames."""
    model, states = load_labeller(birq, 1), {0: [], 1: []}
    with torch.no_grad():
        for number, utterance in enumerate(find_utterances(phones, "test")):
            wav = AudioReader(16000)(utterance.wav)[None]
            frames = model.frontend(wav, torch.ones(1))
            states[number % 2].append(model.encoder(*frames, num_layers=1)[0])
        fit, rest = (torch.cat(part) for part in states.values())
        z = (rest - fit.mean(0)) / (fit.var(0, unbiased=False) + 1e-5).sqrt()
        used = [len(set(column.tolist())) for column in model.enhanced_quantizer(z).T]
    expected = sum(used) / len(used)
    assert diagnosis[0].rows["layer 1"]["used_codes"] == pytest.approx(expected)


def test_churn_counts_labels_that_changed_since_the_checkpoint_before(
    _corpus_template, phones, tmp_path
):
    run = tmp_path / "run"
    pretrain(_corpus_template, run)
    newest = best_checkpoint(run)
    older = shutil.copytree(newest, newest.with_name("CKPT+older"))
    yaml = ruamel.yaml.YAML(typ="safe", pure=True)
    meta = yaml.load(older / "CKPT.yaml")
    yaml.dump(meta | {"save-number": 0}, older / "CKPT.yaml")
    files.seal(older)
    now = [labels.enhanced[0] for labels, _ in measured(run, phones)]
    weights = torch.load(newest / "model.ckpt", weights_only=True)
    moved = {
        key: value.flip(-1) if key == "label_norm.running_mean" else value
        for key, value in weights.items()
    }
    torch.save(moved, newest / "model.ckpt")
    files.seal(newest)
    later = [labels.enhanced[0] for labels, _ in measured(run, phones)]
    expected = (torch.cat(now) != torch.cat(later)).double().mean().item()
    assert expected > 0
    rows = diagnose_run(run, phones, "test").rows
    assert rows["enhanced"]["churn"] == pytest.approx(expected)
    assert rows["anchor"]["churn"] is None
    assert (run / "diagnosis" / "diagnosis.json").is_file()


def test_best_rq_has_no_enhanced_labels(_corpus_template, phones, tmp_path, capsys):
    run = tmp_path / "best_rq"
    pretrain(_corpus_template, run, enhanced_weight_value=0.0, anchor_weight_value=1.0)
    capsys.readouterr()
    main(["diagnose", str(run), f"--data_folder={phones}", "--split=test"])
    names = [line[:18].strip() for line in capsys.readouterr().out.splitlines()]
    assert "anchor" in names and "layer 1" in names and "enhanced" not in names


def test_without_phones_a_fine_tuned_run_aligns_characters(
    birq, corpus, run_folder, tmp_path
):
    found = diagnose_run(birq, corpus, "test", run_folder, tmp_path / "out")
    assert found.unit == "character" and found.frames > 0
    assert found.alignment_cer == 50.0  # of the checkpoint's description
    assert "character pur." in table(found)


@pytest.mark.parametrize(("cer", "said"), [(None, False), (50.0, False), (67.3, True)])
def test_the_table_says_that_an_alignment_is_worthless(diagnosis, cer, said):
    text = table(diagnosis[0]._replace(alignment_cer=cer))
    words = "a run with CER 67.3 %: most characters are wrong, so PNMI and purity say"
    assert (words in " ".join(text.split()) and "--alignment" in text) == said


def test_aligned_characters_are_the_text_in_its_order(run_folder, corpus):
    aligned = AlignedTokens(run_folder)
    for utterance in find_utterances(corpus, "test"):
        times = aligned(utterance)
        spelled = [t.phone for t in times]
        merged = [c for i, c in enumerate(spelled) if i == 0 or c != spelled[i - 1]]
        text = utterance.text
        single = [c for i, c in enumerate(text) if i == 0 or c != text[i - 1]]
        assert merged == single
        assert times[0].end >= 0 and times[-1].end <= utterance.duration + 0.04


def test_texts_are_cleaned_as_those_of_the_aligning_run(run_folder, corpus):
    (utterance, *_) = find_utterances(corpus, "test")
    expected = AlignedTokens(run_folder)(utterance)
    lower = utterance._replace(text=f"{utterance.text.lower()}!")
    assert AlignedTokens(run_folder)(lower) is None  # all letters are unknown
    with open(run_folder / "hyperparams.yaml", "a") as file:
        file.write("text_case: upper\ndrop_characters: '!'\n")
    assert AlignedTokens(run_folder)(lower) == expected


def test_an_utterance_without_text_or_with_too_much_is_not_aligned(run_folder, corpus):
    aligned, (utterance, *_) = AlignedTokens(run_folder), find_utterances(corpus, "dev")
    assert aligned(utterance._replace(text="")) is None
    assert aligned(utterance._replace(text="ONE TWO " * 20)) is None


def test_a_blank_counts_as_the_nearer_token_and_the_ends_are_silent():
    frontend = FrontEnd(stack=4)
    found = token_times([0, 1, 0, 0, 0, 2, 0], ["<blank>", "A", "B"], frontend)
    assert [i.phone for i in found] == list("AAABB")
    assert found[0] == pytest.approx(Interval(0.035, 0.075, "A"))
    named = phones_of_frames(found, 7, frontend.frame_ms)
    assert named == [None, "A", "A", "A", "B", "B", None]


def test_a_long_alignment_names_the_nearer_token():
    """Against a search over all tokens, ties to the earlier one."""
    path = [0] * 40
    for number, place in enumerate((2, 9, 10, 31), 1):
        path[place] = number
    frontend = FrontEnd(n_mels=20, stack=4)
    found = token_times(path, ["<blank>", *"ABCD"], frontend)
    named = [index for index, token in enumerate(path) if token]
    for index, interval in enumerate(found, named[0]):
        nearest = min(named, key=lambda other: (abs(other - index), other))
        assert interval.phone == " ABCD"[path[nearest]]


def test_mutual_information_by_chance_is_that_of_shuffled_labels():
    """8 codes, 4,000 frames: (8 - 1)(8 - 1) / 2M = 0.006 nats."""
    draws = torch.randint(8, (2, 4000, 1), generator=torch.Generator().manual_seed(0))
    for codes, shared in ((draws[0], math.log(8)), (draws[1], 0.006)):
        sets = {"anchor": [draws[0]], "layer 1": [codes]}
        truth = [draws[0][:, 0]], list(range(8))
        row = _row(sets, "layer 1", truth, 8, {})
        assert row["mutual_information"] == pytest.approx(shared, abs=0.003)
        assert row["mutual_information_chance"] == pytest.approx(0.006, abs=0.003)


def test_k_means_finds_groups():
    generator = torch.Generator().manual_seed(0)
    group = torch.arange(60) % 2
    vectors = torch.randn(60, 3, generator=generator) + 50 * group[:, None]
    codes = KMeans(vectors, 2)(vectors)[:, 0]
    assert (codes == codes[0]).tolist() == (group == 0).tolist()


def test_what_cannot_be_diagnosed_is_told(birq, phones, corpus, run_folder, fails):
    def told(run, folder, split, *words, more=()):
        argv = ["diagnose", str(run), f"--data_folder={folder}", f"--split={split}"]
        fails(lambda: main([*argv, *more]), *words)

    told(corpus, phones, "test", "not a run folder")
    told(birq, corpus, "test", "no phones in", "--alignment")
    told(birq, corpus, "dve", "no split 'dve'")
    told(birq, corpus / "none", "dev", "does not exist")
    silent = f"--alignment={run_folder}"
    told(birq, phones, "test", "known character", "transcripts", more=[silent])
    told(birq, corpus, "test", "holds no tokens", more=[f"--alignment={birq}"])
    told(run_folder, phones, "test", "no hyperparams.yaml")


def test_padding_has_no_label(make_model):
    sets, wavs = LabelSets(make_model().eval()), torch.randn(2, 16000)
    batch = SimpleNamespace(id=["a", "b"], sig=(wavs, torch.tensor([1.0, 0.5])))
    sets.fit([batch])
    found, _ = sets.label([batch])
    assert {len(codes["a"]) for codes in found.values()} == {50}
    assert {len(codes["b"]) for codes in found.values()} == {25}


def test_a_half_that_cannot_be_read_is_told(make_model):
    with pytest.raises(BadInput, match="fitting half"):
        LabelSets(make_model().eval()).fit([None])


def test_a_measured_half_that_cannot_be_read_is_told(birq, phones, tmp_path, fails):
    folder = shutil.copytree(phones, tmp_path / "phones")
    for row in find_utterances(folder, "test")[1::2]:
        os.truncate(row.wav, 200)  # its header is good
    argv = ["diagnose", str(birq), f"--data_folder={folder}", "--split=test"]
    fails(lambda: main(argv), "measured half of test", "repair them")


def test_a_recording_that_cannot_be_aligned_is_named_and_left_out(
    run_folder, corpus, caplog
):
    utterance = find_utterances(corpus, "dev")[0]
    os.truncate(utterance.wav, 200)
    assert AlignedTokens(run_folder)(utterance) is None
    assert utterance.wav in caplog.text


def test_an_audiofolder_is_what_its_metadata_lists(birq, phones, tmp_path):
    folder = shutil.copytree(phones, tmp_path / "phones")
    names = [os.path.relpath(u.wav, folder) for u in find_utterances(folder, "test")]
    lines = [f"{os.path.relpath(name, 'test')},X\n" for name in names[:4]]
    (folder / "test/metadata.csv").write_text("file_name,text\n" + "".join(lines))
    found = diagnose_run(birq, folder, "test", output_folder=tmp_path / "out")
    assert found.utterances == 2  # every second one


def test_a_folder_that_cannot_be_written_is_told(birq, phones, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInput, match="--output_folder"):
        diagnose_run(birq, phones, "test", output_folder=tmp_path / "file" / "out")


def test_one_utterance_cannot_be_halved(birq, corpus, run_folder):
    for path in sorted((corpus / "test").rglob("*.*"))[1:]:
        if path.suffix in (".flac", ".wav"):
            path.unlink()
    left = len(find_utterances(corpus, "test"))
    assert left == 1
    with pytest.raises(BadInput, match="at least two"):
        diagnose_run(birq, corpus, "test", run_folder)
