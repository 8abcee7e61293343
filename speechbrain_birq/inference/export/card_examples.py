"""The code on a model card, for each format."""

from collections.abc import Sequence

from speechbrain_birq.inference.export.finished_run import FinishedRun
from speechbrain_birq.inference.export.transformers_files import has_tokenizer

WAVEFORM_ENCODER = """\
from speechbrain.inference.encoders import WaveformEncoder

model = WaveformEncoder.from_hparams("FOLDER"{options})
wavs = model.load_audio("a.wav").unsqueeze(0)
states = model.encode_batch(wavs, torch.ones(1))  # (1, T, {width})
"""
ENCODER_ASR = """\
from speechbrain.inference.ASR import EncoderASR

print(EncoderASR.from_hparams("FOLDER").transcribe_file("a.wav"))
"""
AUTO_MODEL = """\
from transformers import AutoModel

model = AutoModel.from_pretrained("FOLDER", trust_remote_code=True)
wavs = torch.randn(2, {rate})  # at {rate} Hz
mask = torch.ones(2, {rate}, dtype=torch.long)  # 0 on padding
states = model(wavs, attention_mask=mask).last_hidden_state  # (2, T, {width})
"""
PIPELINE = """\
import soundfile
from transformers import pipeline

recognize = pipeline(
    "automatic-speech-recognition", model="FOLDER", trust_remote_code=True
)
print(recognize(soundfile.read("a.wav")[0])["text"])  # at {rate} Hz
"""
AUTO_CTC = """\
from transformers import AutoModelForCTC

model = AutoModelForCTC.from_pretrained("FOLDER", trust_remote_code=True)
logits = model(torch.randn(1, {rate})).logits  # (1, T, {tokens}); 0 is the blank
"""
UPSTREAM = """\
upstream = torch.hub.load("FOLDER", "birq", source="local")
states = upstream([torch.randn(16000)])["hidden_states"]  # {count} of (1, T, {width})
"""


def examples(run: FinishedRun, formats: Sequence[str]) -> str:
    """Return the section on loading: headings and code blocks.

    Arguments
    ---------
    run : FinishedRun
    formats : sequence of str
    """
    blocks = {
        "speechbrain": [WAVEFORM_ENCODER],
        "transformers": [AUTO_MODEL],
        "s3prl": [UPSTREAM],
    }
    if run.tokens is not None:
        blocks["speechbrain"].append(ENCODER_ASR)
        blocks["transformers"].append(PIPELINE if has_tokenizer(run) else AUTO_CTC)
    values = {
        "options": ', hparams_file="encoder.yaml"' if run.tokens is not None else "",
        "width": run.features.output_dim,
        "rate": run.sample_rate,
        "tokens": len(run.tokens or ()),
        "count": run.features.encoder.num_layers + 1,
    }
    sections = []
    for name in formats:
        code = "\n".join(block.format(**values) for block in blocks[name])
        if "torch." in code:
            code = "import torch\n" + code
        sections.append(f"### {name}\n\n```python\n{code}```")
    return "\n\n".join(sections)
