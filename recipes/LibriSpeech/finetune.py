"""Fine-tune with CTC on LibriSpeech, or on any corpus in its layout, and score it.

    python recipes/LibriSpeech/finetune.py hparams/ctc_base.yaml \\
        --data_folder /data/LibriSpeech --pretrained results/birq_base

Libri-light's limited-resource sets are the splits librilight-10min, librilight-1h and
librilight-10h. Any key of the YAML file can be given as --key value. Several GPUs: put
`torchrun --nproc-per-node N` in place of `python`.
"""

from speechbrain_birq.data.corpora.librilight import prepare_librilight
from speechbrain_birq.experiment import finetune

if __name__ == "__main__":
    finetune(prepare_librilight)
