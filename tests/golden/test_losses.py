"""Numbers that must not move by accident: losses of the first steps, and Google's optimizer on the real networks."""

import re
from itertools import pairwise

import numpy as np
import pytest
import torch

from quorem.config.loading import override
from quorem.config.settings import PretrainConfig
from quorem.data.prepare import prepare_data
from quorem.data.source import Source
from quorem.plan.plan import Plan
from quorem.plan.recipes import resolve
from quorem.pretraining.program import PretrainProgram, build_pretraining_optimizer
from quorem.samples import write_reviews
from quorem.training.loop import fit

SETTINGS = (
    "data.text_column=review",
    "data.max_length=32",
    "model.size=tiny",
    "train.learning_rate=2e-3",
    "model.positions=rotary",
    "model.disentangled_embeddings=false",
    "model.vocab_size=300",
    "train.batch_size=8",
    "train.precision=fp32",
    "train.log_every=1",
    "train.checkpoint_every=1000",
)
CPU = torch.device("cpu")


class Memory:
    """Stands for a run folder: keeps what is logged."""

    folder = "memory"

    def __init__(self):
        self.records = []

    def log(self, record):
        self.records.append(record)

    def load_state(self):
        return None

    def drop_records_after(self, step):
        pass


def build_program(tmp_path, *assignments):
    """A program on 60 synthetic reviews, with all weights set to a ramp, so that no random generator's bits count."""
    write_reviews(tmp_path / "reviews.csv", rows=60)
    path = f"data.path={tmp_path / 'reviews.csv'}"
    config = resolve(override(PretrainConfig(), [path, *SETTINGS, *assignments]))
    tokenizer, shards = prepare_data(
        tmp_path / "data", Source.of(config.data, text_column=config.data.text_column), inputs="",
        settings=config.tokenizer, vocab_size=config.model.vocab_size,
    )  # fmt: skip
    program = PretrainProgram(Plan.of(config, len(tokenizer)), tokenizer, shards)
    with torch.no_grad():
        for parameter in program.module.parameters():
            ramp = ((torch.arange(parameter.numel()) % 97) / 97 - 0.5) * 0.2
            parameter.copy_(ramp.view_as(parameter) + (1.0 if parameter.ndim == 1 else 0.0))
    return config, program


def build_its_optimizer(config, program):
    return build_pretraining_optimizer(program.module, config)


GOLDEN = {  # mlm losses, then rtd losses
    "dense": """
        6.21616 5.64005 5.32568 5.08059 4.96991 4.9149 4.68388 4.64306 4.47208 4.56015 4.72348 4.518 3.7774
        4.39559 4.49726 4.6184 3.81489 4.18783 4.29366 3.98024
        0.588965 0.540715 0.415428 0.511736 0.473219 0.403787 0.442536 0.466918 0.438878 0.438237 0.401735
        0.401729 0.404901 0.423807 0.431661 0.410605 0.420313 0.399078 0.392025 0.400044""",
    "qr": """
        5.04097 4.89463 4.3037 4.25336 4.2749 4.35324 3.9574 4.39921 4.0293 4.38632 4.43775 4.27362 3.47638
        4.27294 4.44176 4.6189 3.70094 4.11378 4.31027 3.97141
        0.588121 0.536285 0.422379 0.46908 0.443451 0.393096 0.458367 0.483124 0.426282 0.445265 0.395644
        0.393432 0.402388 0.405485 0.417724 0.409188 0.426614 0.398801 0.376525 0.391969""",
    "tree, muon": """
        5.0734 4.65533 4.22935 4.27032 4.24696 4.26231 4.04646 4.30984
        0.588459 0.436904 0.418043 0.393907 0.400572 0.390221 0.402024 0.405365""",
}


QR = ("model.embedding.kind=qr", "model.embedding.tier=60", "model.embedding.operation=multiply")
CASES = {
    "dense": ("model.embedding.kind=dense", "train.optimizer=adamw"),
    "qr": (*QR, "train.optimizer=adamw"),
    "tree, muon": ("model.embedding.kind=low_rank", "model.embedding.tier=60", "train.optimizer=muon"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_first_losses(tmp_path, case):
    steps = len(GOLDEN[case].split()) // 2
    config, program = build_program(tmp_path, *CASES[case], f"train.max_steps={steps}")
    memory = Memory()
    fit(
        program,
        build_its_optimizer(config, program),
        settings=config.train,
        total_steps=steps,
        schedule=config.train.schedule,
        run=memory,
    )
    found = np.array([[record["mlm_loss"], record["rtd_loss"]] for record in memory.records])
    for record in memory.records:
        assert record["loss"] == pytest.approx(record["mlm_loss"] + 50 * record["rtd_loss"], rel=1e-5)
    # The iteration by which Muon makes matrices orthogonal enlarges what rounding does.
    rtol = 2e-3 if "muon" in case else 1e-4
    np.testing.assert_allclose(found, np.array(GOLDEN[case].split(), float).reshape(2, steps).T, rtol=rtol)


PEAK_LR, TOTAL_STEPS, WARMUP_STEPS, NUM_STEPS = 2e-3, 8, 3, 5


class PortOfGoogleAdam:
    """google-research/electra model/optimization.py in NumPy, one variable at a time; the clip's 1e-6 is PyTorch's."""

    def __init__(self, variables):
        self.variables = variables
        self.first = {name: np.zeros_like(value) for name, value in variables.items()}
        self.second = {name: np.zeros_like(value) for name, value in variables.items()}

    def update(self, gradients, step):
        norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
        lr = PEAK_LR * (1 - step / TOTAL_STEPS) * min(1.0, step / WARMUP_STEPS)
        for name, gradient in gradients.items():
            gradient = gradient * min(1.0, 1.0 / (norm + 1e-6))
            self.first[name] = 0.9 * self.first[name] + 0.1 * gradient
            self.second[name] = 0.999 * self.second[name] + 0.001 * gradient**2
            update = self.first[name] / (np.sqrt(self.second[name]) + 1e-6)
            if not re.search("LayerNorm|layer_norm|bias", name):
                update = update + 0.01 * self.variables[name]
            self.variables[name] = self.variables[name] - lr * update


def copies(named):
    return {name: tensor.detach().double().numpy().copy() for name, tensor in named}


def test_the_google_recipe_equals_a_numpy_port_on_the_real_networks_over_five_steps(tmp_path):
    """Traps 17 to 19: clip over all, Adam without correction, its schedule, what is decayed."""
    config, program = build_program(
        tmp_path,
        "objective.recipe=google",
        f"train.max_steps={TOTAL_STEPS}",
        f"train.learning_rate={PEAK_LR}",
        f"train.warmup={WARMUP_STEPS}",
    )
    assert (config.train.schedule, config.objective.keep_rate) == ("google", 0.15)
    named = list(program.module.named_parameters())
    port = PortOfGoogleAdam(copies(named))
    start = copies(named)
    optimizer = build_its_optimizer(config, program)
    raw, gradients, states = {}, [], []
    for name, parameter in named:  # as the backward pass leaves them, before the clip
        parameter.register_post_accumulate_grad_hook(lambda p, name=name: raw.update(copies([(name, p.grad)])))
    optimizer.register_step_pre_hook(lambda *_: gradients.append(dict(raw)))
    fit(
        program,
        optimizer,
        settings=config.train,
        total_steps=TOTAL_STEPS,
        schedule=config.train.schedule,
        run=Memory(),
        after_step=lambda _: states.append(copies(named)),
    )
    for step in range(NUM_STEPS):
        assert gradients[step].keys() == start.keys()
        assert np.sqrt(sum((gradient**2).sum() for gradient in gradients[step].values())) > 1  # so the clip acts
        port.update(gradients[step], step)
        for name, expected in port.variables.items():
            np.testing.assert_allclose(states[step][name], expected, rtol=1e-5, atol=2e-7, err_msg=f"{step} {name}")
    assert all(np.array_equal(start[name], states[0][name]) for name in start)  # the first step's rate is 0
    for before, after in pairwise(states):
        assert all(not np.array_equal(before[name], after[name]) for name in start)
