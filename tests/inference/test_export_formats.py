"""``birq export``: formats, model card, and what it refuses."""

import json
import re
from pathlib import Path

import pytest
from small_runs import finetune

from speechbrain_birq.checkpoints.published import find_run
from speechbrain_birq.cli.main import main
from speechbrain_birq.data.manifest import Utterance, write_manifest
from speechbrain_birq.data.split_places import manifest_path
from speechbrain_birq.inference import FORMATS, export_run, load_exported

FILES = {
    "speechbrain": {
        *("hyperparams.yaml", "encoder.yaml"),
        *("encoder.ckpt", "ctc_lin.ckpt", "tokenizer.ckpt"),
    },
    "transformers": {
        *("config.json", "model.safetensors", "modeling_birq.py"),
        *("preprocessor_config.json", "tokenizer_config.json", "vocab.json"),
    },
    "s3prl": {"config.json", "model.safetensors", "expert.py", "hubconf.py"},
}


@pytest.fixture
def card(run_folder, tmp_path):
    """card(): the model card that an export of the run writes."""

    def make(**options):
        export_run(run_folder, tmp_path / "exported", formats=["s3prl"], **options)
        return (tmp_path / "exported" / "README.md").read_text()

    return make


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_writes_its_files_and_a_card(run_folder, tmp_path, name, capsys):
    main(["export", str(run_folder), str(tmp_path / "x"), "--format", name])
    found = {path.name for path in (tmp_path / "x").iterdir()}
    assert found == FILES[name] | {"README.md"}
    assert all(file in capsys.readouterr().out for file in ("README.md",))


def test_all_formats_lie_in_one_folder(recogniser_folder):
    found = {path.name for path in recogniser_folder.iterdir()}
    assert found == set().union(*FILES.values()) | {"README.md"}


def test_the_help_names_every_format(capsys):
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in FORMATS)


def test_an_unknown_format_is_one_sentence(run_folder, tmp_path, fails):
    words = ["export", str(run_folder), str(tmp_path / "x"), "--format", "onnx"]
    fails(lambda: main(words), "'onnx'", *FORMATS)
    assert not (tmp_path / "x").exists()


# The card.


def test_what_the_run_does_not_say_is_named(card):
    text = card()
    assert "| training data | not recorded in the run folder |" in text
    assert "They are not recorded in the run folder." in text
    assert "| license of the weights | not given" in text


def test_tuned_weights_of_a_language_model_are_no_split(card, run_folder):
    scores = dict(wer=20.0, cer=5.0)
    tuned = dict(alpha=0.5, beta=1.5, wer=7.0, cer=2.0)
    results = {"test": scores, "lm_weights": tuned}
    (run_folder / "results.json").write_text(json.dumps(results))
    text = card()
    assert "| test | 20 | 5 |" in text and "lm_weights" not in text


def test_weights_by_their_name_have_the_card_of_their_folder(tmp_path):
    for name, run in (("a", "best_rq_tiny"), ("b", find_run("best_rq_tiny"))):
        export_run(run, tmp_path / name, formats=["s3prl"])
    named, by_path = ((tmp_path / name / "README.md").read_text() for name in "ab")
    assert "with BEST-RQ" in named and "| steps | 800 |" in named
    assert named == by_path


def test_a_license_is_in_the_header_and_in_the_table(card):
    text = card(license="apache-2.0")
    assert "\nlicense: apache-2.0\n" in text.split("---")[1]
    assert "| license of the weights | apache-2.0 |" in text


def test_a_license_that_is_no_name_is_one_sentence(run_folder, tmp_path, fails):
    words = ["export", str(run_folder), str(tmp_path / "x"), "--license", "a\nb: c"]
    fails(lambda: main(words), "no license")


def test_hours_are_those_of_the_manifest(card, run_folder):
    settings = "train_split: spoken\nvalid_split: none\nlr: 0.5\n"
    (run_folder / "hyperparams.yaml").write_text(settings)
    rows = [Utterance(str(n), 900.0, f"{n}.wav", "s", "") for n in range(6)]
    write_manifest(run_folder / "manifests" / "spoken.csv", rows)
    text = card()
    assert "| training data | spoken, 1.5 h in 6 utterances |" in text
    assert "| validation data | none, hours not recorded in the run folder |" in text
    assert "\nlr: 0.5\n" in text


def test_figures_are_those_of_the_results(card, run_folder):
    results = {"steps": 7, "test": {"wer": 12.5, "cer": 3.25}}
    (run_folder / "results.json").write_text(json.dumps(results))
    text = card()
    assert "| test | 12.5 | 3.25 |" in text
    assert "| steps | 7 |" in text


def test_figures_of_a_pretraining(pretrained_folder, tmp_path):
    results = {"valid": {"G": 3.5, "step": 7}}
    (pretrained_folder / "results.json").write_text(json.dumps(results))
    export_run(pretrained_folder, tmp_path / "exported", formats=["s3prl"])
    assert "| G | valid | 3.5 |" in (tmp_path / "exported" / "README.md").read_text()


def test_paths_of_the_machine_are_not_on_the_card(card, run_folder):
    settings = "data_folder: /home/me/corpus\npretrained: /home/me/runs/base\n"
    (run_folder / "hyperparams.yaml").write_text(settings)
    text = card()
    assert "/home/me" not in text
    assert "fine-tuned from the run `base`" in text


OWN_PATHS = {
    "/home/alice/clients/corpus.csv": r"corpus-\w{8}",
    "~/clients/corpus.csv": r"corpus-\w{8}",
    "../clients/corpus.csv": r"corpus-\w{8}",
    "clients/corpus.csv": r"corpus-\w{8}",
    "s3://alice/clients/train": r"train-\w{8}",
    "/home/alice/clients+more/corpus": r"clients-\w{8}\+corpus",
    "dev-clean+/home/alice/clients/corpus.csv": r"dev-clean\+corpus-\w{8}",
    "other/100h": "other/100h",
    "a+b": r"a\+b",
    "hf:owner/name/train": "hf:owner/name/train",
    "5%": "5%",
}


@pytest.mark.parametrize(("split", "name"), OWN_PATHS.items())
def test_a_split_has_its_name_and_hours_and_no_path(card, run_folder, split, name):
    settings = json.dumps({"train_split": split, "valid_split": split})
    (run_folder / "hyperparams.yaml").write_text(settings)
    scores = dict(wer=20.0, cer=5.0)
    results = {split: scores, f"{split}@chunk8": scores}
    (run_folder / "results.json").write_text(json.dumps(results))
    rows = [Utterance(str(n), 900.0, f"{n}.wav", "s", "") for n in range(6)]
    write_manifest(manifest_path(run_folder / "manifests", split), rows)
    text = card()
    assert not re.search(r"alice|clients/|/clients|~", text)
    for stage in ("training", "validation"):
        hours = r"1\.5 h in 6 utterances"
        assert re.search(rf"^\| {stage} data \| {name}, {hours} \|$", text, re.M)
    assert re.search(rf"^\| {name} \| 20 \| 5 \|$", text, re.M)
    assert re.search(rf"^\| {name}@chunk8 \| 20 \| 5 \|$", text, re.M)
    assert len(re.findall(rf"^(?:train|valid)_split: {name}$", text, re.M)) == 2


def test_hours_are_of_manifests_of_the_run(card, run_folder):
    (run_folder / "hyperparams.yaml").write_text("train_split: a/../../other\n")
    rows = [Utterance("a", 900.0, "a.wav", "s", "")]
    write_manifest(run_folder / "other.csv", rows)
    (run_folder / "manifests/a").mkdir(parents=True)
    assert "hours not recorded" in card()


@pytest.mark.parametrize("split", ["a`|<b>\\n# x", "../../etc"])
def test_a_foreign_text_cannot_write_markdown(card, run_folder, split):
    (run_folder / "hyperparams.yaml").write_text(f'train_split: "{split}"\n')
    (line,) = re.findall(r"^\| training data .*$", card(), re.M)
    assert line.count("|") == 3 and "<" not in line and "`" not in line


def test_a_corrupt_file_of_results_is_one_sentence(run_folder, tmp_path, fails):
    (run_folder / "results.json").write_text("[1")
    words = ["export", str(run_folder), str(tmp_path / "x")]
    fails(lambda: main(words), "results.json")


@pytest.mark.slow
def test_the_card_of_a_whole_run(corpus, pretrained, tmp_path):
    finetune(corpus, tmp_path / "ctc", pretrained=pretrained[0])
    export_run(tmp_path / "ctc", tmp_path / "exported", formats=["s3prl"])
    text = (tmp_path / "exported" / "README.md").read_text()
    assert "not recorded" not in text
    assert "fine-tuned from the run `pretrained`" in text
    assert str(tmp_path) not in text
    assert "birq finetune hyperparams.yaml --data_folder DATA --pretrained RUN" in text


# Loading.


def test_a_missing_file_is_one_sentence(recogniser_folder, fails):
    (recogniser_folder / "model.safetensors").unlink()
    with pytest.raises(Exception, match=r"model\.safetensors"):
        load_exported(recogniser_folder)


def test_weights_of_another_architecture_are_refused(recogniser_folder):
    config = json.loads((recogniser_folder / "config.json").read_text())
    config["architecture"] = config["architecture"].replace("d_ffn: 32", "d_ffn: 64")
    (recogniser_folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(Exception, match="another architecture"):
        load_exported(recogniser_folder)


def test_a_config_builds_listed_classes_only(recogniser_folder):
    config = json.loads((recogniser_folder / "config.json").read_text())
    config["architecture"] = re.sub(
        r"!new:speechbrain_birq\.models\.SpeechBrainEncoder",
        "!new:subprocess.Popen",
        config["architecture"],
    )
    (recogniser_folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(Exception, match=r"subprocess\.Popen.*not trusted"):
        load_exported(recogniser_folder)


def test_the_code_for_transformers_is_the_packages_own(recogniser_folder):
    import speechbrain_birq.inference.export as package

    source = Path(package.__file__).with_name("modeling_birq.py")
    assert (recogniser_folder / source.name).read_bytes() == source.read_bytes()
