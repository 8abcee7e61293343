"""Files of SpeechBrain's pretrained models: ``WaveformEncoder`` and ``EncoderASR``."""

from pathlib import Path
from textwrap import indent

from speechbrain_birq.checkpoints import files
from speechbrain_birq.inference.export.finished_run import FinishedRun
from speechbrain_birq.inference.export.tokenizers import (
    save_tokenizer,
    tokenizer_class,
)

ENCODER = """\
# Front end and encoder of a run of speechbrain_birq. To be loaded with
# speechbrain.inference.encoders.WaveformEncoder, or included in the YAML of a recipe.
layer: null # 1 to K: leave the encoder there; null: its last layer, normalized
freeze: False
encoder: !new:speechbrain_birq.inference.SpeechFeatures
    layer: !ref <layer>
    freeze: !ref <freeze>
{architecture}
modules:
    encoder: !ref <encoder>
audio_normalizer: !new:speechbrain.dataio.preprocess.AudioNormalizer
    sample_rate: {sample_rate}
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        encoder: !ref <encoder>
"""

RECOGNISER = """\
# A fine-tuned run of speechbrain_birq. To be loaded with
# speechbrain.inference.ASR.EncoderASR.
freeze: False
encoder: !new:speechbrain_birq.inference.SpeechFeatures
    freeze: !ref <freeze>
{architecture}
ctc_lin: !new:torch.nn.Linear
    in_features: {output_dim}
    out_features: {num_tokens}
log_probs: !new:speechbrain_birq.inference.TokenLogProbs
    features: !ref <encoder>
    head: !ref <ctc_lin>
tokenizer: !new:speechbrain_birq.inference.{tokenizer}
# Or !name:speechbrain.decoders.ctc.CTCBeamSearcher, which reads test_beam_search.
decoding_function: !name:speechbrain.decoders.ctc_greedy_decode
    blank_id: 0
test_beam_search:
    blank_index: 0
    beam_size: 100
modules:
    encoder: !ref <log_probs>
audio_normalizer: !new:speechbrain.dataio.preprocess.AudioNormalizer
    sample_rate: {sample_rate}
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        encoder: !ref <encoder>
        ctc_lin: !ref <ctc_lin>
        tokenizer: !ref <tokenizer>
"""


def write_speechbrain(run: FinishedRun, folder: Path) -> None:
    """Write ``hyperparams.yaml`` and the files that its Pretrainer loads.

    The ``hyperparams.yaml`` of a fine-tuned run is for ``EncoderASR``; a second file,
    ``encoder.yaml``, is for ``WaveformEncoder``.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    architecture = indent(run.architecture.rstrip(), "    ")
    encoder = ENCODER.format(architecture=architecture, sample_rate=run.sample_rate)
    files.save_tensors(run.features.state_dict(), folder / "encoder.ckpt")
    if run.tokens is None or run.head is None:
        files.write(folder / "hyperparams.yaml", encoder)
        return
    files.write(folder / "encoder.yaml", encoder)
    files.save_tensors(run.head.state_dict(), folder / "ctc_lin.ckpt")
    save_tokenizer(run.tokens, folder / "tokenizer.ckpt")
    recogniser = RECOGNISER.format(
        architecture=architecture,
        sample_rate=run.sample_rate,
        output_dim=run.features.output_dim,
        num_tokens=len(run.tokens),
        tokenizer=tokenizer_class(run.tokens).__name__,
    )
    files.write(folder / "hyperparams.yaml", recogniser)
