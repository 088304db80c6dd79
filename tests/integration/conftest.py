"""What the integration tests share: a sample, a tiny pre-trained run, a classifier, ways to call the command line."""

import logging
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_networks import SMALL_NETWORKS
from task_cases import WORDS

from quorem.cli import main
from quorem.samples import write_reviews, write_sessions


@dataclass
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def root_logger():
    """The command line takes the root logger's handlers away: give pytest its own back."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.fixture(scope="session")
def pretrain_settings():
    """Settings of a run of six steps and two checkpoints, in a second."""
    return [
        *SMALL_NETWORKS,
        "train.precision=fp32",
        "model.embedding.kind=qr",
        "model.vocab_size=3000",
        "data.max_length=32",
        "train.max_steps=6",
        "train.batch_size=8",
        "train.log_every=2",
        "train.checkpoint_every=2",
    ]


@pytest.fixture(scope="session")
def finetune_settings():
    return ["data.max_length=24", "train.epochs=2", "train.precision=fp32"]


@pytest.fixture(scope="session")
def sample_csv(tmp_path_factory):
    path = tmp_path_factory.mktemp("sample") / "reviews.csv"
    write_reviews(path, rows=300)
    return path


@pytest.fixture(scope="session")
def few_reviews(tmp_path_factory):
    """A third of the sample, where what is fitted on its rows takes longer than the training."""
    path = tmp_path_factory.mktemp("few") / "reviews.csv"
    write_reviews(path, rows=100)
    return path


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory, sample_csv, pretrain_settings):
    """The folder of a finished pre-training run; tests copy it before they change it."""
    out = tmp_path_factory.mktemp("runs") / "pretrained"
    assert main(["pretrain", str(sample_csv), "--text-column", "review", "--out", str(out), *pretrain_settings]) == 0
    return out


@pytest.fixture(scope="session")
def classifier(tmp_path_factory, sample_csv, pretrained, finetune_settings):
    """The folder of a finished fine-tuning run; tests copy it before they change it."""
    out = tmp_path_factory.mktemp("runs") / "classifier"
    columns = ["--text-column", "review", "--label-column", "sentiment"]
    assert main(["finetune", str(pretrained), str(sample_csv), *columns, "--out", str(out), *finetune_settings]) == 0
    return out


@pytest.fixture(scope="session")
def base(tmp_path_factory, pretrain_settings):
    """A pre-training run of six steps on the toys' words."""
    folder = tmp_path_factory.mktemp("base")
    chance = random.Random(1)
    texts = folder / "words.txt"
    texts.write_text("".join(" ".join(chance.choices(WORDS, k=12)) + "\n" for _ in range(80)))
    words = ["pretrain", texts, "--out", folder / "run", *pretrain_settings, "model.embedding.kind=dense"]
    assert main([str(word) for word in words]) == 0
    return folder / "run"


@pytest.fixture(scope="session")
def small_recommender(tmp_path_factory, pretrain_settings):
    """The folder of a next-item run of three steps, on 120 sessions."""
    folder = tmp_path_factory.mktemp("small-shop")
    write_sessions(folder / "items.txt", rows=120, vocab_size=150, seed=0)
    words = ["pretrain", folder / "items.txt", "--tokenizer", "items", "--out", folder / "run", *pretrain_settings]
    assert main([str(word) for word in [*words, "model.embedding.kind=dense", "data.rows=isolated"]]) == 0
    words = ["finetune", folder / "run", folder / "items.txt", "--task", "next_item", "--out", folder / "next"]
    assert main([str(word) for word in [*words, "train.max_steps=3", "data.max_items=12"]]) == 0
    return folder / "next"


@pytest.fixture
def quorem(capsys):
    """The command line, called: quorem("describe", ...) -> Outcome."""

    def run(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def refused(quorem):
    """A command that must end with exit code 2 and one line that says why; returns the line."""

    def run(*words, after_log=False):
        outcome = quorem(*words)
        lines = outcome.err.splitlines()
        assert (outcome.code, outcome.out) == (2, ""), outcome
        assert lines, "nothing on standard error"
        assert lines[-1].startswith("quorem: ")
        assert after_log or len(lines) == 1, lines
        assert "Traceback" not in outcome.err
        return lines[-1]

    return run


@pytest.fixture(scope="session")
def half_written():
    """The names of half-written files at or below a folder."""

    def find(folder: Path):
        marks = (".partial", ".part", ".old")
        return [str(path) for path in folder.parent.rglob("*") if path.name.endswith(marks)]

    return find
