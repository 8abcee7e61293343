"""Draw a subset of YODAS, download it and write it as shards, before pretraining.

    python recipes/YODAS/prepare.py --output_folder /data/yodas --hours 5000 --seed 0

Needs the extra `large`. A run that was stopped continues when the same command is given
again. README.md beside this file says what is chosen, and what it takes.
"""

import argparse

from speechbrain_birq.data.corpora.yodas.prepare import prepare_yodas
from speechbrain_birq.errors import one_sentence


@one_sentence
def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_folder", required=True, help="where the shards go")
    parser.add_argument("--hours", type=float, default=5000.0, help="of train")
    parser.add_argument("--dev_hours", type=float, default=5.0, help="of other videos")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--languages", nargs="+", default=(), help="default: all en*")
    parser.add_argument("--min_seconds", type=float, default=0.5)
    parser.add_argument("--max_seconds", type=float, default=30.0)
    parser.add_argument("--revision", default="main", help="of the dataset")
    parser.add_argument("--endpoint", help="default: huggingface_hub's")
    counts = prepare_yodas(**vars(parser.parse_args()))
    print(", ".join(f"{count} {name}" for name, count in counts.items()))


if __name__ == "__main__":
    main()
