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

    def forget_after(self, step):
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
        6.17261 5.63829 5.24781 5.24088 4.84625 4.74374 4.69283 4.44799 4.27959 4.17809
        4.40373 4.27187 4.62096 3.93854 4.16237 4.08638 4.22886 4.29017 3.91434 4.09627
        0.584592 0.546391 0.437266 0.501044 0.469084 0.402801 0.412438 0.443723 0.437364 0.418061
        0.41754 0.383316 0.422392 0.403487 0.410357 0.410677 0.393963 0.434805 0.384252 0.392061""",
    "qr": """
        5.12342 4.58376 4.48418 4.3735 4.08554 4.0807 4.05646 4.1394 3.78895 4.06932
        4.3753 3.98492 4.46457 3.85835 4.12112 3.98976 3.94942 3.87966 3.89844 4.02271
        0.583457 0.543742 0.449427 0.462221 0.421103 0.394668 0.41284 0.391858 0.398807 0.384134
        0.40612 0.387267 0.393847 0.400086 0.377201 0.409193 0.401217 0.439737 0.37612 0.391318""",
    "tree, muon": """
        5.10624 4.32526 4.31425 4.37906 4.15985 4.12734 4.19873 4.10497
        0.583647 0.434285 0.441776 0.421882 0.415079 0.42096 0.412152 0.401046""",
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
