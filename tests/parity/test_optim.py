"""The optimizer against a NumPy port of google-research/electra's optimization.py, and its tables of learning rates."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from quorem.errors import UserError
from quorem.training.google_adam import GoogleAdam
from quorem.training.optim import build_optimizer, layerwise_lr, parameter_groups
from quorem.training.schedule import learning_rate_scale

SHAPES = {"embeddings.table.weight": (7, 4), "dense.weight": (4, 3), "dense.bias": (3,), "LayerNorm.weight": (3,)}
PEAK_LR, TOTAL_STEPS, WARMUP_STEPS = 0.05, 8, 3


def make_arrays(seed: int, scale: float) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {name: scale * generator.standard_normal(shape) for name, shape in SHAPES.items()}


def port_of_google_optimizer(num_steps: int) -> dict[str, np.ndarray]:
    """Written from optimization.py, one variable at a time; only the clip's 1e-6 is PyTorch's."""
    variables = make_arrays(0, 1.0)
    first = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    second = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for step in range(num_steps):
        gradients = make_arrays(step + 1, 10.0 ** (step - 2))  # from far below to far above the clip
        norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
        lr = PEAK_LR * (1 - step / TOTAL_STEPS) * min(1.0, step / WARMUP_STEPS)
        for name in SHAPES:
            gradient = gradients[name] * min(1.0, 1.0 / (norm + 1e-6))
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            update = first[name] / (np.sqrt(second[name]) + 1e-6)
            if "LayerNorm" not in name and "bias" not in name:
                update = update + 0.01 * variables[name]
            variables[name] = variables[name] - lr * update
    return variables


def make_parameters(dtype: torch.dtype) -> dict[str, nn.Parameter]:
    return {name: nn.Parameter(torch.from_numpy(value).to(dtype)) for name, value in make_arrays(0, 1.0).items()}


def run_step(parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, step: int) -> None:
    for name, gradient in make_arrays(step + 1, 10.0 ** (step - 2)).items():
        parameters[name].grad = torch.from_numpy(gradient).to(parameters[name].dtype)
    nn.utils.clip_grad_norm_(parameters.values(), 1.0)
    scale = learning_rate_scale(step, total_steps=TOTAL_STEPS, warmup_steps=WARMUP_STEPS, schedule="google")
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * scale
    optimizer.step()


def make_google_optimizer(parameters: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
    groups = parameter_groups(parameters.items(), lr=PEAK_LR, weight_decay=0.01, decay_embeddings=True)
    return build_optimizer(groups, kind="google", betas=(0.9, 0.999), eps=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_google_adam_equals_the_numpy_port_after_each_of_five_steps(dtype, tolerance):
    parameters = make_parameters(dtype)
    optimizer = make_google_optimizer(parameters)
    for step in range(5):
        run_step(parameters, optimizer, step)
        for name, expected in port_of_google_optimizer(step + 1).items():
            np.testing.assert_allclose(parameters[name].detach().numpy(), expected, rtol=tolerance, atol=tolerance)


def test_google_adam_resumes_bit_for_bit_from_its_state_dict():
    parameters = make_parameters(torch.float32)
    optimizer = make_google_optimizer(parameters)
    for step in range(3):
        run_step(parameters, optimizer, step)
    resumed = {name: nn.Parameter(parameter.detach().clone()) for name, parameter in parameters.items()}
    resumed_optimizer = make_google_optimizer(resumed)
    resumed_optimizer.load_state_dict(deepcopy(optimizer.state_dict()))  # as from a file
    run_step(parameters, optimizer, 3)
    run_step(resumed, resumed_optimizer, 3)
    for name in SHAPES:
        assert torch.equal(parameters[name], resumed[name])


def test_google_adam_leaves_parameters_without_a_gradient_alone():
    used, unused = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = GoogleAdam([used, unused], lr=0.1)
    loss = optimizer.step(lambda: (used.sum().backward(), 3.0)[1])
    assert loss == 3.0
    assert torch.equal(unused, torch.ones(2, 2))
    # One step from zero moments: 0.1 / (sqrt(0.001) + 1e-6) = 3.16, the missing bias correction.
    torch.testing.assert_close(used.detach(), torch.full((2, 2), 1 - 0.1 * (0.1 / (0.001**0.5 + 1e-6) + 0.01)))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("google", {0: 0.0, 5: 0.475, 10: 0.9, 50: 0.5, 99: 0.01, 100: 0.0, 120: 0.0}),
        ("linear", {0: 0.1, 4: 0.5, 9: 1.0, 10: 1.0, 55: 0.5, 99: 1 / 90, 100: 0.0, 120: 0.0}),
        ("cosine", {0: 0.1, 9: 1.0, 10: 1.0, 40: 0.75, 55: 0.5, 70: 0.25, 100: 0.0, 120: 0.0}),
        ("constant", {0: 0.1, 9: 1.0, 10: 1.0, 120: 1.0}),
    ],
)
def test_learning_rate_scale_golden_values(schedule, expected):
    scales = {step: learning_rate_scale(step, total_steps=100, warmup_steps=10, schedule=schedule) for step in expected}
    assert scales == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("schedule", ["google", "linear", "cosine", "constant"])
def test_without_warm_up_the_first_step_has_the_full_rate(schedule):
    assert learning_rate_scale(0, total_steps=10, warmup_steps=0, schedule=schedule) == 1.0


LAYER_NAMES = [
    "electra.embeddings.word_embeddings.weight",
    "electra.embeddings_project.weight",
    "electra.encoder.layer.0.attention.self.query.weight",
    "electra.encoder.layer.1.output.LayerNorm.bias",
    "electra.encoder.layer.11.output.dense.weight",
    "classifier.out_proj.weight",
]


def test_layerwise_lr_table():
    rates = [layerwise_lr(name, lr=3e-4, decay=0.8, num_layers=12) for name in LAYER_NAMES]
    assert rates == pytest.approx([3e-4 * 0.8**exponent for exponent in [13, 13, 12, 11, 1, 0]])


def make_electra_classifier() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.ElectraConfig(
        vocab_size=50,
        embedding_size=8,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
    )
    return transformers.ElectraForSequenceClassification(config)


def test_every_parameter_of_transformers_electra_has_its_layer_rate():
    model = make_electra_classifier()
    rates = {name: layerwise_lr(name, lr=1.0, decay=0.5, num_layers=3) for name, _ in model.named_parameters()}
    head = {name for name, rate in rates.items() if rate == 1.0}
    assert head == {name for name in rates if name.startswith("classifier.")}
    embeddings = {name for name, rate in rates.items() if rate == 0.5**4}
    assert embeddings == {name for name in rates if name.startswith("electra.embeddings")}
    for layer in range(3):
        of_layer = {name for name, rate in rates.items() if rate == 0.5 ** (3 - layer)}
        assert of_layer == {name for name in rates if name.startswith(f"electra.encoder.layer.{layer}.")}


@pytest.mark.parametrize("decay_embeddings", [True, False])
def test_groups_partition_all_parameters(decay_embeddings):
    model = make_electra_classifier()

    def lr(name):
        return layerwise_lr(name, lr=1.0, decay=0.5, num_layers=3)

    groups = parameter_groups(model.named_parameters(), lr=lr, weight_decay=0.01, decay_embeddings=decay_embeddings)
    placed = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(placed) == sorted(id(parameter) for parameter in model.parameters())

    group_of = {id(parameter): group for group in groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        group = group_of[id(parameter)]
        assert group["lr"] == group["base_lr"] == lr(name)
        is_table = name.startswith("electra.embeddings.") and "LayerNorm" not in name
        decayed = decay_embeddings if is_table else parameter.ndim == 2
        assert group["weight_decay"] == (0.01 if decayed else 0.0), name


@pytest.mark.parametrize("names", [("embeddings.word_embeddings", "head"), ("head", "embeddings.word_embeddings")])
def test_a_tied_parameter_is_placed_once_and_decayed_only_if_all_its_names_allow(names):
    table = nn.Parameter(torch.ones(5, 3))
    named = [(f"{name}.weight", table) for name in names]
    (group,) = parameter_groups(named, lr=1e-3, weight_decay=0.01, decay_embeddings=False)
    assert len(group["params"]) == 1
    assert group["weight_decay"] == 0.0
    (group,) = parameter_groups(named, lr=1e-3, weight_decay=0.01, decay_embeddings=True)
    assert len(group["params"]) == 1
    assert group["weight_decay"] == 0.01


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e3])
def test_the_clip_over_all_groups_keeps_the_global_norm_at_most_one(factor):
    parameters = make_parameters(torch.float64)
    named = [*parameters.items(), ("head.weight", parameters["embeddings.table.weight"])]
    groups = parameter_groups(named, lr=1.0, weight_decay=0.01, decay_embeddings=True)
    for name, gradient in make_arrays(1, factor).items():
        parameters[name].grad = torch.from_numpy(gradient)
    before = np.sqrt(sum((gradient**2).sum() for gradient in make_arrays(1, factor).values()))
    nn.utils.clip_grad_norm_([parameter for group in groups for parameter in group["params"]], 1.0)
    after = np.sqrt(sum(float((parameter.grad**2).sum()) for parameter in parameters.values()))
    assert after <= 1
    # Not smaller than needed either: a tied table that came twice would be counted and scaled twice.
    assert after == pytest.approx(min(1.0, before), rel=1e-5)


def test_adamw_is_fused_and_takes_rate_and_decay_from_the_groups():
    parameters = make_parameters(torch.float32)
    groups = parameter_groups(parameters.items(), lr=1e-3, weight_decay=0.02, decay_embeddings=False)
    optimizer = build_optimizer(groups, kind="adamw", betas=(0.9, 0.98), eps=1e-7)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.02}
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"], group["eps"], group["fused"]) == (1e-3, (0.9, 0.98), 1e-7, True)


def test_unknown_names_are_user_errors_that_propose_the_near_one():
    with pytest.raises(UserError, match=r"'gogle' is unknown\. Did you mean google\?"):
        learning_rate_scale(0, total_steps=1, warmup_steps=0, schedule="gogle")
    with pytest.raises(UserError, match=r"'adam' is unknown\. Did you mean adamw\?"):
        build_optimizer([], kind="adam", betas=(0.9, 0.999), eps=1e-6)
