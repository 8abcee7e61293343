"""BiRQ and BEST-RQ: self-supervised speech pretraining in SpeechBrain."""

__version__ = "0.1.0"
