"""Log probabilities of a fine-tuned run, as SpeechBrain's decoders want them."""

import torch

from speechbrain_birq.inference.speech_features import SpeechFeatures
from speechbrain_birq.models.frontend import valid_frames


class TokenLogProbs(torch.nn.Module):
    """Front end, encoder and output layer as one module.

    SpeechBrain's decoders round ``wav_lens * T``, and may so count a frame of padding,
    or drop the last frame. Here padding is a certain blank, and the batch is as long as
    it takes to keep every frame: a text does not depend on its batch.

    Arguments
    ---------
    features : SpeechFeatures
    head : torch.nn.Module
        (B, T, H) -> (B, T, V); token 0 is the blank.

    Example
    -------
    >>> from speechbrain_birq.models.encoders.encoder import SpeechBrainEncoder
    >>> from speechbrain_birq.models.frontend import FrontEnd
    >>> encoder = SpeechBrainEncoder(
    ...     kind="conformer", input_dim=320, num_layers=1, d_model=16, nhead=2, d_ffn=32
    ... )
    >>> features = SpeechFeatures(frontend=FrontEnd(stack=4), encoder=encoder)
    >>> log_probs = TokenLogProbs(features=features, head=torch.nn.Linear(16, 30))
    >>> log_probs(torch.randn(2, 16000), torch.tensor([1.0, 0.5])).shape
    torch.Size([2, 25, 30])
    """

    def __init__(self, *, features: SpeechFeatures, head: torch.nn.Module) -> None:
        super().__init__()
        self.features, self.head = features, head

    def forward(self, wavs: torch.Tensor, wav_lens: torch.Tensor) -> torch.Tensor:
        """Compute log probabilities.

        Arguments
        ---------
        wavs : torch.Tensor
            (B, S) at the run's sampling rate.
        wav_lens : torch.Tensor
            (B,) relative lengths.

        Returns
        -------
        torch.Tensor
            (B, T, V) float32
        """
        states, lengths = self.features.encode(wavs, wav_lens)
        log_probs = self.head(states).float().log_softmax(-1)
        padding = ~valid_frames(lengths, log_probs.shape[1])
        blank = torch.full_like(log_probs[0, 0], -1e4)
        blank[0] = 0.0
        log_probs = torch.where(padding.unsqueeze(-1), blank, log_probs)
        # Greedy decoding rounds the number of frames, the beam search cuts it off.
        while ((wav_lens * log_probs.shape[1]).long() < lengths).any():
            more = blank.expand(len(log_probs), 1, -1)
            log_probs = torch.cat([log_probs, more], 1)
        return log_probs
