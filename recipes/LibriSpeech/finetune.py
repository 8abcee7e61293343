"""Fine-tune with CTC on LibriSpeech, or on any corpus in its layout, and score it.

    python recipes/LibriSpeech/finetune.py hparams/ctc_base.yaml \\
        --data_folder /data/LibriSpeech --pretrained results/birq_base

Any key of the YAML file can be given as --key value. Several GPUs: put
`torchrun --nproc-per-node N` in place of `python`.
"""

from speechbrain_birq.data.librispeech import prepare_librispeech
from speechbrain_birq.experiment import finetune

if __name__ == "__main__":
    finetune(prepare_librispeech)
