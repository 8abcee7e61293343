"""AMI: meetings cut into their segments, which lie in LibriSpeech's layout."""

from speechbrain_birq.data.corpora.ami.prepare import find_ami, prepare_ami

__all__ = [
    "find_ami",
    "prepare_ami",
]
