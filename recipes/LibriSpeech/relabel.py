"""Label a corpus with the codes of a pretrained run's layer k: offline relabeling.

    python recipes/LibriSpeech/relabel.py results/best_rq_wide --layer 3 \\
        --output_folder results/labels_1 --device cuda:0
    python recipes/LibriSpeech/pretrain.py hparams/best_rq_wide.yaml \\
        --data_folder /data/LibriSpeech --stored_labels results/labels_1 \\
        --output_folder results/relabeled_1

Another round labels with results/relabeled_1 in place of results/best_rq_wide.
"""

from speechbrain_birq.inference.relabel import relabel

if __name__ == "__main__":
    relabel()
