"""Pretrain BiRQ or BEST-RQ on the shards that prepare.py has written.

    torchrun --nproc-per-node 8 recipes/YODAS/pretrain.py \\
        hparams/birq_large_yodas.yaml --data_folder /data/yodas --precision bf16

Any key of the YAML file can be given as --key value.
"""

from speechbrain_birq.data.corpora.yodas.prepare import find_yodas
from speechbrain_birq.experiment import pretrain

if __name__ == "__main__":
    pretrain(find_yodas)
