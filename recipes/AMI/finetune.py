"""Fine-tune with CTC on AMI's segments, ihm and sdm together, and score both.

    python recipes/AMI/finetune.py hparams/ctc_ami.yaml \\
        --data_folder /data/ami_segments --pretrained results/birq_large_yodas

Any key of the YAML file can be given as --key value. Several GPUs: put
`torchrun --nproc-per-node N` in place of `python`.
"""

from speechbrain_birq.data.corpora.ami.prepare import find_ami
from speechbrain_birq.experiment import finetune

if __name__ == "__main__":
    finetune(find_ami)
