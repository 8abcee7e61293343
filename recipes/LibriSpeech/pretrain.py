"""Pretrain BiRQ or BEST-RQ on LibriSpeech, or on any corpus in its layout.

    python recipes/LibriSpeech/pretrain.py hparams/birq_base.yaml \\
        --data_folder /data/LibriSpeech

Any key of the YAML file can be given as --key value. Several GPUs: put
`torchrun --nproc-per-node N` in place of `python`.
"""

from speechbrain_birq.data.corpora.librispeech import prepare_librispeech
from speechbrain_birq.experiment import pretrain

if __name__ == "__main__":
    pretrain(prepare_librispeech)
