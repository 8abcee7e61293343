"""Cut AMI's meetings into segments in LibriSpeech's layout, before fine-tuning.

    python recipes/AMI/prepare.py --data_folder /data/ami --download \\
        --output_folder /data/ami_segments

Needs the extra `large`. A run that was stopped continues when the same command is given
again. README.md beside this file says what is cut, and how.
"""

import argparse

from speechbrain_birq.data.corpora.ami.prepare import MICS, PARTS, prepare_ami
from speechbrain_birq.errors import one_sentence


@one_sentence
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_folder", required=True, help="holds wav_db, or will")
    parser.add_argument("--output_folder", required=True, help="of the segments")
    parser.add_argument("--mics", nargs="+", default=MICS, choices=MICS)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--without", nargs="+", default=(), metavar="MEETING")
    parser.add_argument("--download", action="store_true", help="60 to 70 GB")
    for split, c in prepare_ami(**vars(parser.parse_args(argv))).items():
        print(
            f"{split}: {c.segments} segments, {c.seconds / 3600:.2f} h; left out "
            f"{c.empty} without text, {c.beyond} that end after the recording"
        )


if __name__ == "__main__":
    main()
