"""Parts that do not fit together are refused when the model is made."""

import pytest

from speechbrain_birq.errors import BadInput

MODELS = "speechbrain_birq.models"
CODEBOOK = f"!new:{MODELS}.Codebook {{num_codebooks: 4, num_codes: 64, code_dim: 16}}"


@pytest.mark.parametrize("name", ["FittedQuantizer", "RandomProjectionQuantizer"])
@pytest.mark.parametrize(
    "kind, dim, words",
    [
        ("anchor", 80, "is 80, the size of the frames of the front end is 320"),
        ("enhanced", 320, "is 320, the size of the output of the encoder is 144"),
    ],
)
def test_a_quantizer_of_other_inputs_is_named(load, delta, name, kind, dim, words):
    line = f"{kind}_quantizer: !new:{MODELS}.{name} {{input_dim: {dim}}}\n"
    with pytest.raises(BadInput, match=f"input size of the {kind} quantizer {words}"):
        load(delta(line))


@pytest.mark.parametrize(
    "line, words",
    [
        ("heads: {num_codes: 64}", "anchor quantizer has 4 .* of 512 .* 4 of 64"),
        ("heads: {num_codebooks: 2}", "anchor quantizer has 4 .* of 512 .* 2 of 512"),
        ("heads: {input_dim: 320}", "output layers is 320, .* encoder is 144"),
        ("label_normalization: {dim: 4}", "the LabelNorm is 4, .* encoder is 144"),
        (
            f"enhanced_quantizer: {{codebook: {CODEBOOK}}}",
            "of the enhanced quantizer has 4 codebooks of 64 codes, .* 4 of 512",
        ),
    ],
)
def test_another_part_of_other_sizes_is_named(load, delta, line, words):
    with pytest.raises(BadInput, match=words):
        load(delta(f"{line}\n"))
