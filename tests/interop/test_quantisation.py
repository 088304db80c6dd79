"""Dynamic quantisation of linear layers: every head runs, its numbers stay near, and the matrices are smaller."""

import pytest
import torch
from interop_cases import HEADS, inputs, make

OF_TORCH = "torch.ao, which has it until torch drops it"


def quantised(model, how):
    if how == OF_TORCH:
        return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    torchao = pytest.importorskip(
        "torchao.quantization", reason="needs torchao, which no extra installs: pip install torchao"
    )
    torchao.quantize_(model, torchao.Int8DynamicActivationInt8WeightConfig())
    return model


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize("how", [OF_TORCH, "torchao"])
@pytest.mark.parametrize("name", list(HEADS))
@torch.no_grad()
def test_eight_bits_change_scores_by_less_than_a_tenth(name, how):
    model, given = make(name), inputs(name)
    expected = model(**given)[0]
    found = quantised(model, how)
    small = found.electra if name != "encoder" else found
    attention = small.encoder.layer[0].attention.self
    assert type(attention.query) is not torch.nn.Linear or type(attention.query.weight) is not torch.nn.Parameter
    real = expected > -1e30  # what cannot be has log p = -inf, or the least number there is
    off = (found(**given)[0] - expected)[real].square().mean().sqrt() / expected[real].square().mean().sqrt()
    assert 0 < off < 0.1
