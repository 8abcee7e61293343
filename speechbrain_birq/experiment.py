"""From a command line to a finished run folder: what the recipes call."""

import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from speechbrain.utils.distributed import (
    ddp_broadcast,
    ddp_init_group,
    if_main_process,
)
from speechbrain.utils.run_opts import RunOptions

from speechbrain_birq.brains.closing import (
    finetune_command,
    known_scores,
    log_closing,
    mark_other_settings,
    own_packages,
    transcribe_command,
    unmark,
)
from speechbrain_birq.brains.ctc import Transfer, check_test_splits
from speechbrain_birq.brains.feature_statistics import estimate_statistics
from speechbrain_birq.brains.run_log import add_result
from speechbrain_birq.brains.text_log import begin_log, introduce
from speechbrain_birq.checkpoints import files
from speechbrain_birq.checkpoints.refused_start import removed_if_refused
from speechbrain_birq.checkpoints.run_folder import (
    architecture_text,
    has_checkpoint,
    has_scored_checkpoint,
    save_architecture,
)
from speechbrain_birq.checkpoints.run_lock import locked
from speechbrain_birq.checkpoints.same_run import check_same_run
from speechbrain_birq.config import build, configure, parse_arguments
from speechbrain_birq.config.keys import PER_MACHINE
from speechbrain_birq.config.loader import plain_value
from speechbrain_birq.config.tree import one_line
from speechbrain_birq.data.corpus_record import CorpusRecord
from speechbrain_birq.data.pipeline import Item, MaskItem
from speechbrain_birq.data.split_places import stand_ins
from speechbrain_birq.data.splits import (
    prepare_splits,
    refuse_long,
    sample,
    stage_loader,
)
from speechbrain_birq.decoding.decoders import make_decoder
from speechbrain_birq.decoding.texts import run_tokens
from speechbrain_birq.distributed import check_same_settings, warn_of_restarts
from speechbrain_birq.errors import BadInput, from_user_code, one_sentence
from speechbrain_birq.inference.relabel import add_stored_labels
from speechbrain_birq.inference.start import (
    load_encoder,
    load_output_layer,
    load_pretraining,
    settle_model,
)
from speechbrain_birq.metrics.curves import plot_training
from speechbrain_birq.models.encoders.chunking import check_chunks, make_chunk
from speechbrain_birq.models.masking import SpanMasking

logger = logging.getLogger(__name__)


STAGES = ("train", "valid")


class Experiment(NamedTuple):
    """A started experiment."""

    hparams: dict[str, Any]
    options: RunOptions
    folder: Path
    resolved: str  # HyperPyYAML text that makes these hparams
    text: str = ""  # the same as a file that can be run
    yaml: Path = Path()  # the file that was given


@one_sentence
def pretrain(
    prepare: Callable[..., Any], argv: Sequence[str] | None = None
) -> dict[str, float]:
    """Pretrain as a YAML file says.

    Arguments
    ---------
    prepare : callable
        (data_folder, splits, manifest_folder) -> {split: manifest}, of a corpus.
    argv : sequence, optional
        YAML file, SpeechBrain's run options, ``--key value`` for any key of the YAML;
        by default those of the command line. ``--pretrained RUN`` names the run folder
        of which front end, encoder and labels are taken.

    Returns
    -------
    dict
        The last validation figures, as in ``results.json``.
    """
    with _started(argv, "pretrain") as experiment:
        return _pretrain(prepare, experiment)


def _pretrain(prepare, experiment):
    hparams, frontend = experiment.hparams, experiment.hparams["frontend"]
    if isinstance(hparams["masking"], SpanMasking):
        with _refusal_in_a_sentence():
            hparams["masking"].check(frontend.frame_ms)
    manifests = prepare_splits(prepare, experiment, ["train_split", "valid_split"])
    # Only those of training follow the epoch: validation keeps the masks of epoch 0.
    masks = {stage: MaskItem(frontend, hparams["masking"]) for stage in STAGES}
    items: dict[str, list[Item]] = {
        stage: [(masks[stage], ["sig", "id"], "mask")] for stage in STAGES
    }
    items["valid"].append((str, "speaker", "speaker_name"))
    train, valid = _loaders(experiment, frontend, manifests, items)
    _record_corpus(experiment, manifests)
    if hparams.get("stored_labels") is not None:
        add_stored_labels(hparams, train=train.dataset, valid=valid.dataset)
    speech = partial(sample, train.dataset, hparams["seed"])
    load_pretraining(hparams, hparams["modules"]["model"], experiment.folder)
    _estimate_statistics(hparams, frontend, speech)
    brain = _brain(experiment, hparams["modules"], masks=masks["train"], speech=speech)
    _fit(experiment, brain, train, valid)
    figures = _finish(experiment, brain)
    run = experiment.folder
    splits = {key: hparams[key] for key in ("data_folder", "train_split")}
    own = own_packages(frontend, hparams["encoder"])
    command = finetune_command(experiment.yaml, run, **splits, trust=own)
    log_closing(run, command, trained=brain.progress.begun)
    return figures


@one_sentence
def finetune(
    prepare: Callable[..., Any], argv: Sequence[str] | None = None
) -> dict[str, dict[str, float]]:
    """Fine-tune a pretrained encoder with CTC (or train from scratch) and score it.

    Arguments
    ---------
    prepare : callable
        As for ``pretrain``.
    argv : sequence, optional
        The same; ``--pretrained RUN`` names the run folder that it starts from.

    Returns
    -------
    dict
        Error rates of each test split, as in ``results.json``; with
        ``test_chunk_size: 8`` those of decoding in chunks, too, as ``<split>@chunk8``.
    """
    with _started(argv, "finetune") as experiment:
        return _finetune(prepare, experiment)


def _finetune(prepare, experiment):
    hparams = experiment.hparams
    check_test_splits(hparams["test_splits"])
    transfer = Transfer.of(hparams)
    num_fresh = transfer.fresh_layers
    frontend, encoder = load_encoder(hparams, num_fresh, experiment.folder)
    test_chunk = _test_chunk(hparams, frontend, encoder)
    manifests = prepare_splits(
        prepare, experiment, ["train_split", "valid_split", "test_splits"]
    )
    for split in hparams["test_splits"]:
        refuse_long(hparams["max_eval_seconds"], split, manifests[split])
    tokens = run_tokens(hparams, experiment.folder, manifests, frontend)
    decoder = _decoder(hparams, tokens)
    model = _model(experiment, frontend, encoder, tokens)
    items = [(tokens.encode, "text", "tokens"), (str, "text", "reference")]
    stages = dict.fromkeys(STAGES, items)
    train, valid = _loaders(experiment, frontend, manifests, stages)
    speech = partial(sample, train.dataset, hparams["seed"])
    _estimate_statistics(hparams, frontend, speech)
    brain = _brain(
        experiment, {"model": model}, tokens=tokens, decoder=decoder, transfer=transfer
    )
    test_only, known = experiment.options.test_only, {}
    if test_only:
        mark_other_settings(experiment.folder, experiment.text)
    else:
        known = _train(experiment, brain, manifests, train, valid)
    scores = _scores(experiment, brain, manifests, items, test_chunk, known)
    if not test_only:
        unmark(experiment.folder)
    _log_recogniser(experiment, manifests, trained=brain.progress.begun or test_only)
    return scores


def _log_recogniser(experiment, manifests, *, trained):
    """Log what the run has reached, and how one of its recordings is transcribed."""
    hparams = experiment.hparams
    splits = (*hparams["test_splits"], hparams["valid_split"], hparams["train_split"])
    known_splits = [manifests[split] for split in splits]
    trust = hparams.get("trust", ())
    command = transcribe_command(experiment.folder, known_splits, trust)
    log_closing(experiment.folder, command, trained=trained)


def _train(experiment, brain, manifests, train, valid):
    """Train to the end; return the scores that are known if nothing was left to do."""
    _record_corpus(experiment, manifests)
    known = known_scores(experiment.folder, experiment.text)
    _fit(experiment, brain, train, valid)
    _finish(experiment, brain)
    return {} if brain.progress.begun else known


def _scores(experiment, brain, manifests, items, test_chunk, known):
    """Score each test split, unless its score is known."""
    hparams, scores = experiment.hparams, {}
    for split in hparams["test_splits"]:
        manifest = manifests[split]
        loader = stage_loader(hparams, brain.model.frontend, manifest, "test", items)
        scores[split] = known.get(split) or brain.score(split, loader)
        if test_chunk is not None:
            name = f"{split}@chunk{test_chunk.chunk_size}"
            scores[name] = known.get(name) or brain.score(name, loader, test_chunk)
    return scores


@contextmanager
def _started(argv, script):
    """Load the settings and hold the output folder until the run ends."""
    path, options, overrides = parse_arguments(sys.argv[1:] if argv is None else argv)
    ddp_init_group(options)
    if options.debug and not options.debug_persistently:
        overrides["output_folder"] = ddp_broadcast(tempfile.mkdtemp(prefix="debug_"))
        # SpeechBrain need not move its checkpoints to another temporary folder.
        given = {name: options[name] for name in options.overridden_args}
        options = RunOptions.from_dictionary(given | {"debug_persistently": True})
    tree = configure(path, overrides, script, settle_model)
    names = ("data_folder", "valid_split", "test_splits")
    settings = {name: plain_value(tree, name) for name in names}
    tree.update(stand_ins(settings, overrides))
    folder = Path(plain_value(tree, "output_folder"))
    _check_options(options, folder, script)
    with removed_if_refused(folder):
        with _folder_named():  # its checkpointer makes it
            hparams, resolved, text = build(tree, path)
        with locked(folder):
            with _folder_named():
                begin_log(folder)
            check_same_run(folder, text)
            check_same_settings(resolved, PER_MACHINE)
            warn_of_restarts()
            yield Experiment(hparams, options, folder, resolved, text, Path(path))


@contextmanager
def _folder_named():
    try:
        yield
    except OSError as error:
        if from_user_code(error):
            raise
        where = error.filename2 or error.filename  # a copy names its source first
        raise BadInput(
            f"cannot write {where} ({error.strerror}): give another output folder with "
            f"--output_folder"
        ) from error


def _check_options(options, folder, script):
    """Refuse options that the folder does not allow, before anything is written."""
    resumed = has_checkpoint(folder)
    if options.test_only and script == "pretrain":
        raise BadInput("--test_only: a pretraining has no test split to score")
    if options.test_only and not resumed:
        raise BadInput(f"--test_only: no checkpoint in {folder}/save, so train first")
    if options.test_only and not has_scored_checkpoint(folder):
        raise BadInput(
            f"--test_only: no checkpoint in {folder}/save was validated yet, so train "
            f"on: give the command without --test_only"
        )
    if options.debug and (resumed or (folder / "hyperparams.yaml").exists()):
        raise BadInput(
            f"--debug_persistently: {folder} holds a run: give another --output_folder"
        )


def _loaders(experiment, frontend, manifests, items):
    """Yield the loaders of the training and the validation split."""
    hparams = experiment.hparams
    for stage in STAGES:
        manifest = manifests[hparams[f"{stage}_split"]]
        yield stage_loader(hparams, frontend, manifest, stage, items[stage])


def _record_corpus(experiment, manifests):
    """Have checkpoints hold what a resume must find again to be exact."""
    hparams = experiment.hparams
    splits = [hparams[f"{stage}_split"] for stage in STAGES]
    record = CorpusRecord(
        {split: manifests[split] for split in splits}, hparams["batch_seconds"]
    )
    # Checkpoints of earlier versions have none.
    hparams["checkpointer"].add_recoverable("corpus", record, optional_load=True)


def _estimate_statistics(hparams, frontend, speech):
    """Estimate them once: a pretrained model has its own, and so has a checkpoint."""
    wanted = frontend.normalize == "global" and not frontend.statistics.estimated
    if wanted and hparams["checkpointer"].find_checkpoint() is None:
        estimate_statistics(frontend, speech, hparams["normalize_seconds"])


def _model(experiment, frontend, encoder, tokens):
    """Make the recogniser that the YAML names, with the weights it starts from."""
    hparams, augment = experiment.hparams, experiment.hparams["augment"]
    with _refusal_in_a_sentence():
        model = hparams["model"](
            frontend=frontend,
            encoder=encoder,
            num_tokens=len(tokens),
            augment=augment and augment(stack=frontend.stack),
        )
    load_output_layer(hparams, model, tokens, experiment.folder)
    hparams["checkpointer"].add_recoverable("model", model)
    return model


def _brain(experiment, modules, **parts):
    """Make the Brain that the YAML names; ``parts`` were made after loading it."""
    hparams = experiment.hparams
    with _refusal_in_a_sentence():  # such as a device or precision not to be had
        return hparams["brain_class"](
            modules=modules,
            opt_class=hparams["opt_class"],
            hparams=hparams,
            run_opts=experiment.options,
            checkpointer=hparams["checkpointer"],
            **parts,
        )


@contextmanager
def _refusal_in_a_sentence():
    """Raise as ``BadInput`` what a part refuses; errors of the user's own code stay."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if from_user_code(error):
            raise
        raise BadInput(one_line(error)) from error


def _fit(experiment, brain, train, valid):
    brain.train_sampler = train.batch_sampler
    run_log = experiment.hparams["run_log"]
    brain.checkpointer.add_recoverable("loader", train)  # its place within the epoch
    brain.checkpointer.add_recoverable("run_log", run_log)
    with brain.interruption:
        brain.fit(_epochs(experiment, brain), train, valid)
    if if_main_process():
        add_result(experiment.folder, "seconds", round(run_log.seconds, 1))


def _epochs(experiment, brain):
    """Yield the remaining epochs, after the files that describe the run are written.

    By now the checkpoint, if there is one, is known to fit. So a run that is refused
    leaves the folder of the earlier one as it was.
    """
    folder = experiment.folder
    if if_main_process():
        files.write(folder / "hyperparams.yaml", experiment.text)
        _write_architecture(experiment, folder / "architecture.yaml")
        experiment.hparams["run_log"].resume()
    if not brain.finished:
        introduce(brain)
        yield from experiment.hparams["epoch_counter"]


def _write_architecture(experiment, path):
    """Describe front end and encoder; what fine-tuning adopts is copied once."""
    hparams = experiment.hparams
    run = hparams.get("pretrained")
    if run is None or "tokens" not in hparams:
        save_architecture(experiment.resolved, path)
    elif not has_checkpoint(experiment.folder):
        files.write(path, architecture_text(run, hparams.get("trust", ())))


def _finish(experiment, brain):
    if not if_main_process():
        return {}
    add_result(experiment.folder, "steps", brain.optimizer_step)
    figures = plot_training(experiment.folder)
    add_result(experiment.folder, "valid", figures)
    return figures


def _test_chunk(hparams, frontend, encoder):
    """Return the chunk to score with, if any; refuse parts that need whole audio."""
    with _refusal_in_a_sentence():
        if hparams["chunking"] is not None:
            hparams["chunking"].check(frontend, encoder)
        if hparams["test_chunk_size"] is None:
            return None
        check_chunks(frontend, encoder)
        return make_chunk(hparams["test_chunk_size"], hparams["test_left_chunks"])


def _decoder(hparams, tokens):
    return make_decoder(
        hparams["decoding"],
        tokens,
        beam_size=hparams["beam_size"],
        lm_path=hparams["lm_path"],
        alpha=hparams["lm_alpha"],
        beta=hparams["lm_beta"],
    )
