"""A run of speechbrain_birq for transformers; `birq export` copies this file.

from transformers import AutoModel

model = AutoModel.from_pretrained(folder, trust_remote_code=True)
"""

from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

try:
    from speechbrain_birq.inference import build_features
    from speechbrain_birq.models.frontend import valid_frames
except ImportError as error:
    raise ImportError(
        "this model needs the package speechbrain_birq: clone its repository, then run "
        "pip install -e on the clone"
    ) from error


class BiRQConfig(PretrainedConfig):
    """What describes a run.

    Arguments
    ---------
    architecture : str
        YAML of front end and encoder, as in ``architecture.yaml`` of a run folder.
    trust : sequence of str
        Further packages whose classes the architecture names.
    vocab_size : int
        V tokens of a fine-tuned run; token 0 is CTC's blank.
    **options
        Those of every configuration.
    """

    model_type = "birq"

    def __init__(
        self,
        architecture: str = "",
        trust: tuple[str, ...] = (),
        vocab_size: int = 0,
        **options: Any,
    ) -> None:
        self.architecture, self.trust = architecture, list(trust)
        self.vocab_size = vocab_size
        super().__init__(**options)


class BiRQPreTrainedModel(PreTrainedModel):
    """What both models share: names, and constants that no file holds."""

    config_class = BiRQConfig
    base_model_prefix = "birq"
    main_input_name = "input_values"

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Give a module its constants back: transformers makes its buffers anew.

        Weights are not touched, because each one comes from the file.
        """
        constants = getattr(self, "constants", {})
        for name, value in constants.get(module, {}).items():
            getattr(module, name).copy_(value)


class BiRQModel(BiRQPreTrainedModel):
    """Waveforms to the states of the encoder."""

    def __init__(self, config: BiRQConfig) -> None:
        super().__init__(config)
        self.features = _built_in_float32(config).to(torch.get_default_dtype())
        self.constants = {
            module: {n: getattr(module, n).clone() for n in sorted(names)}
            for module in self.features.modules()
            if (names := module._non_persistent_buffers_set)
        }
        self.post_init()

    def forward(
        self,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **options: Any,
    ) -> BaseModelOutput | tuple:
        """Encode waveforms.

        Arguments
        ---------
        input_values : torch.Tensor
            (B, S) at ``config.sampling_rate``.
        attention_mask : torch.Tensor, optional
            (B, S), 0 on padding, which is on the right.
        output_hidden_states : bool, optional
            Whether to return the input of the first layer and each layer's output, too.
        return_dict : bool, optional
            False: return a tuple.
        **options
            Not used.

        Returns
        -------
        BaseModelOutput
            ``last_hidden_state`` (B, T, H): the normalized last layer, 0 on padding.
        """
        last, _, hidden = self.encode(
            input_values, attention_mask, output_hidden_states
        )
        output = BaseModelOutput(last_hidden_state=last, hidden_states=hidden)
        return self.returned(output, return_dict)

    def encode(
        self,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor | None,
        output_hidden_states: bool | None,
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...] | None]:
        """Return the last states, the number of valid frames, the layers if wanted."""
        wav_lens = relative_lengths(input_values, attention_mask)
        last, lengths = self.features.encode(input_values, wav_lens)
        hidden = None
        if self._option(output_hidden_states, "output_hidden_states"):
            hidden, _ = self.features.hidden_states(input_values, wav_lens)
        return last, lengths, hidden

    def returned(self, output: Any, return_dict: bool | None) -> Any:
        """Return an output, or a tuple if that is wanted."""
        return output if self._option(return_dict, "return_dict") else output.to_tuple()

    def _option(self, given, name):
        return getattr(self.config, name) if given is None else given


class BiRQForCTC(BiRQPreTrainedModel):
    """A fine-tuned run: waveforms to the logits of its tokens."""

    def __init__(self, config: BiRQConfig) -> None:
        super().__init__(config)
        self.birq = BiRQModel(config)
        width = self.birq.features.output_dim
        self.lm_head = torch.nn.Linear(width, config.vocab_size)
        self.post_init()

    def forward(
        self,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        labels: torch.Tensor | None = None,
        **options: Any,
    ) -> CausalLMOutput | tuple:
        """Compute logits, and the loss if there are labels.

        Arguments
        ---------
        input_values, attention_mask, output_hidden_states, return_dict
            As for ``BiRQModel``.
        labels : torch.Tensor, optional
            (B, U) token numbers, -100 on padding.
        **options
            Not used.

        Returns
        -------
        CausalLMOutput
            ``logits`` (B, T, V); on padding only the blank is possible. ``loss`` is
            CTC's, a mean over the tokens of the batch.
        """
        states, lengths, hidden = self.birq.encode(
            input_values, attention_mask, output_hidden_states
        )
        logits = self.lm_head(states)
        loss = None if labels is None else ctc_loss(logits, lengths, labels)
        padding = ~valid_frames(lengths, logits.shape[1]).unsqueeze(-1)
        others = torch.arange(logits.shape[2], device=logits.device) > 0
        lowest = torch.finfo(logits.dtype).min
        logits = logits.masked_fill(padding & others, lowest)
        output = CausalLMOutput(loss=loss, logits=logits, hidden_states=hidden)
        return self.birq.returned(output, return_dict)


def _built_in_float32(config):
    """Build front end and encoder with the values of their constants.

    transformers builds on the device "meta", where constants have no values, and in the
    precision of the weights, in which the front end's would be rounded.
    """
    precision = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            return build_features(config.architecture, config.trust)
    finally:
        torch.set_default_dtype(precision)


def relative_lengths(
    wavs: torch.Tensor, attention_mask: torch.Tensor | None
) -> torch.Tensor:
    """Return the part (B,) of each waveform that is no padding."""
    if attention_mask is None:
        return torch.ones(len(wavs), device=wavs.device)
    return attention_mask.sum(1) / wavs.shape[1]


def ctc_loss(
    logits: torch.Tensor, lengths: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Return CTC's loss for each token; a text too long for its audio counts 0.

    Labels up to 0 are no tokens: -100 is padding, and the tokenizer gives unknown
    letters and padding the number of the blank, which torch forbids as a target.
    """
    valid = labels > 0
    log_probs = logits.float().log_softmax(-1).transpose(0, 1)
    losses = torch.nn.functional.ctc_loss(
        log_probs,
        labels[valid],
        lengths,
        valid.sum(1),
        reduction="sum",
        zero_infinity=True,
    )
    return losses / valid.sum().clamp(min=1)
