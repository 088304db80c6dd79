"""Two processes, started by a launcher, do what one does; and one goes on where two were stopped."""

import importlib
import json
import os
import re
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from forked import group, run, run_group, start
from safetensors.torch import load_file
from small_networks import SMALL_NETWORKS
from torch.distributed import run as torchrun

from quorem.cli import main
from quorem.samples import write_reviews

STEPS = 8
TWO = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "quorem")


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "reviews.csv"
    write_reviews(path, rows=150)
    return path


def words(reviews, out, *settings):
    return (
        "pretrain", str(reviews), "--text-column", "review", "--out", str(out), "data.max_length=32", *SMALL_NETWORKS,
        "model.vocab_size=400", "model.embedding.kind=qr", "model.embedding.tier=60", "model.dropout=0",
        "train.batch_size=5", f"train.max_steps={STEPS}", "train.checkpoint_every=3", "train.log_every=2",
        "train.precision=fp32", *settings,
    )  # fmt: skip


def accelerate(kind):
    """Its launcher for two processes; its accumulation is not to count beside ours."""
    return (
        "accelerate.commands.launch", kind, "--num_processes=2", "--num_machines=1", "--mixed_precision=no",
        "--dynamo_backend=no", "--main_process_port=0", "--gradient_accumulation_steps=4", "-m", "quorem",
    )  # fmt: skip


def work(*words):
    """What a process of a launcher does; the launcher learns from its exit code that it failed."""
    if code := main(list(words)):
        raise SystemExit(code)


def be_launcher(name, words, forks):
    """Be the launcher of that name. Its processes are forked from it, where what is tested is what it tells them:
    a python that starts anew imports for seconds."""
    os.setsid()  # so that a signal can be sent to it and its processes at once, and to nobody else
    made = torchrun.config_from_args  # accelerate calls it too

    def forking(arguments):
        config, _, command = made(arguments)
        config.start_method = "fork"
        return config, work, command[command.index("quorem") + 1 :]

    if forks:
        torchrun.config_from_args = forking
    sys.argv = [name, *words]
    importlib.import_module(name).main()
    raise SystemExit(0)


def launch(command, words, out, err, forks=True):
    name, *options = command
    first = partial(be_launcher, name, [*options, *words], forks)
    return start(out=out, err=err, first=first, OMP_NUM_THREADS=1)


@pytest.fixture(scope="module")
def one(tmp_path_factory, reviews):
    """A run of one process."""
    folder = tmp_path_factory.mktemp("one") / "run"
    done = run(*words(reviews, folder))
    assert done.returncode == 0, done.stderr
    return folder


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_close(folder, other):
    for name in ("discriminator", "generator"):
        weights = load_file(other / name / "model.safetensors")
        for key, value in load_file(folder / name / "model.safetensors").items():
            assert (value - weights[key]).abs().max() < 1e-5, (name, key)
    for line, expected in zip(metrics(folder), metrics(other), strict=True):
        if "held_out" in line:
            assert line["held_out"] == pytest.approx(expected["held_out"], rel=1e-4)
            continue
        assert line["step"] == expected["step"]
        for key in ("loss", "gradient_norm", "mlm_loss", "rtd_loss", "share_replaced", "rtd_auc"):
            assert line[key] == pytest.approx(expected[key], rel=1e-4), key


BY_ROWS = ("model.embedding.kind=dense", "model.head.kind=two_level", "train.table_updates=rows")


@pytest.mark.parametrize(
    "settings",
    [
        ("train.batch_size=1", "data.rows=isolated", "objective.recipe=google"),
        ("train.micro_batch_size=2", "train.gradient_checkpointing=true"),
        (*BY_ROWS, "train.batch_size=1"),
    ],
)
def test_two_processes_take_the_steps_of_one_with_whole_layers_and_with_shared_ones(tmp_path, reviews, settings):
    """Shares are empty, or one process has more micro-batches."""
    done = run(*words(reviews, tmp_path / "one", *settings))
    assert done.returncode == 0, done.stderr
    for name, more in (("two", ()), ("shared", ("train.shard_layers=true",))):
        both = run_group(*words(reviews, tmp_path / name, *settings, *more))
        assert both.returncode == 0, both.stderr
        assert both.stdout == done.stdout  # said once
        assert_close(tmp_path / name, tmp_path / "one")
    parts = re.search(r"keeps ([\d,]+) of ([\d,]+) parameters", both.stderr)
    mine, all_of_them = (int(number.replace(",", "")) for number in parts.groups())
    weights = [load_file(tmp_path / "shared" / name / "model.safetensors") for name in ("discriminator", "generator")]
    layers = sum(value.numel() for each in weights for key, value in each.items() if ".encoder.layer." in key)
    assert mine == pytest.approx(all_of_them - layers / 2, abs=layers / 100)  # what is not a layer's is everywhere


def test_accelerate_shares_layers_out_between_two_processes_that_do_the_same(tmp_path, reviews, one):
    said = tmp_path / "said"
    done = launch(accelerate("--use_fsdp"), words(reviews, tmp_path / "two"), os.devnull, said)
    done.join()
    assert done.exitcode == 0, said.read_text()
    assert "this process keeps" in said.read_text()
    assert_close(tmp_path / "two", one)
    found = [load_file(folder / "generator" / "model.safetensors") for folder in (one, tmp_path / "two")]
    assert any((found[1][key] != value).any() for key, value in found[0].items())  # rounding: there were two


def test_a_process_that_accelerate_started_dies_and_one_goes_on(tmp_path, reviews, one):
    said = tmp_path / "said"
    begun = launch(accelerate("--multi_gpu"), words(reviews, tmp_path / "two"), os.devnull, said)
    while not list((tmp_path / "two").glob("state/step-000006*")):
        time.sleep(0.01)
        assert begun.is_alive(), said.read_text()
    children = Path(f"/proc/{begun.pid}/task/{begun.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    begun.join()
    assert begun.exitcode != 0
    assert "this process keeps" not in said.read_text()
    assert not (tmp_path / "two" / "result.json").exists()
    again = run(*words(reviews, tmp_path / "two"))
    assert again.returncode == 0, again.stderr
    assert "resumed after step" in again.stderr
    assert_close(tmp_path / "two", one)


@pytest.mark.parametrize(("others", "dies"), [(run, 0), (run_group, 1)], ids=["whole layers", "layers shared out"])
def test_layers_that_were_shared_out_are_whole_in_checkpoints(tmp_path, reviews, one, others, dies):
    shared = words(reviews, tmp_path / "two", "train.shard_layers=true")
    said = tmp_path / "said"
    begun = [start(*shared, out=os.devnull, err=said, **environment) for environment in group()]
    while not list((tmp_path / "two").glob("state/step-000006*")):
        time.sleep(0.01)
        if not all(process.is_alive() for process in begun):
            for process in begun:
                process.join()
            pytest.fail(f"exit codes {[process.exitcode for process in begun]}; said: {said.read_text()}")
    begun[dies].kill()
    for process in begun:
        process.join()
    assert begun[1 - dies].exitcode == 2
    assert "another process of the run has ended: see its message for the cause" in said.read_text()
    again = others(*(shared if others is run_group else words(reviews, tmp_path / "two")))
    assert again.returncode == 0, again.stderr
    assert "resumed after step" in again.stderr
    assert_close(tmp_path / "two", one)


def test_one_process_goes_on_as_two(tmp_path, reviews, one):
    begun = start(*words(reviews, tmp_path / "two"), out=os.devnull, err=os.devnull)
    while not list((tmp_path / "two").glob("state/step-000006*")):
        time.sleep(0.01)
        assert begun.is_alive()
    begun.kill()
    begun.join()
    again = run_group(*words(reviews, tmp_path / "two"))
    assert again.returncode == 0, again.stderr
    assert "resumed after step" in again.stderr
    assert_close(tmp_path / "two", one)


def test_torchrun_starts_two_processes_that_take_the_steps_of_one_and_stop_with_a_checkpoint(tmp_path, reviews):
    """Rows of a step cannot be halved: shares are uneven. The signal is what Slurm sends: launcher and processes are
    told at once, and the launcher tells the processes again."""
    settings = ("train.checkpoint_every=1000", "train.max_steps=40", "train.warmup=6")
    out, told = tmp_path / "out", tmp_path / "told"
    begun = launch(TWO, words(reviews, tmp_path / "two", *settings), out, told, forks=False)  # once as users start it
    while not (tmp_path / "two" / "metrics.jsonl").exists():
        time.sleep(0.01)
        assert begun.is_alive(), told.read_text()
    os.killpg(begun.pid, signal.SIGTERM)
    begun.join()
    (state,) = (tmp_path / "two" / "state").iterdir()
    step = int(state.name.removeprefix("step-"))
    assert 2 <= step < 40
    assert (
        f"stopped after step {step} of 40, with a checkpoint; give the same command again to resume" in out.read_text()
    )
    assert told.read_text().count("SIGTERM: stopping with a checkpoint after this step") == 1
    for how, name in ((run_group, "two"), (run, "one")):
        done = how(*words(reviews, tmp_path / name, *settings))
        assert done.returncode == 0, done.stderr
    assert_close(tmp_path / "two", tmp_path / "one")


def test_the_best_of_layers_that_are_shared_out_is_kept(tmp_path, reviews):
    settings = (
        "data.held_out=0.2", "train.learning_rate=0.3", "train.schedule=constant", "train.warmup=6",
        "train.shard_layers=true", "train.checkpoint_every=2",
    )  # fmt: skip
    both = run_group(*words(reviews, tmp_path / "two", *settings))
    assert both.returncode == 0, both.stderr
    step = json.loads((tmp_path / "two" / "result.json").read_text())["best_step"]
    assert 0 < step < STEPS
    short = run_group(*words(reviews, tmp_path / "short", *settings, f"train.max_steps={step}"))
    assert short.returncode == 0, short.stderr
    for name in ("discriminator", "generator"):
        best, expected, last = (
            load_file(tmp_path / place / name / "model.safetensors") for place in ("two/best", "short", "two")
        )
        assert best.keys() == expected.keys() == last.keys()
        assert all(torch.equal(best[key], expected[key]) for key in best)
        assert any((best[key] != last[key]).any() for key in best)


def test_one_clear_line_says_what_is_wrong_in_each_process(tmp_path, reviews):
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "thesis.tex").write_text("three years of work")
    done = run_group(*words(reviews, tmp_path / "two"))
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith(("quorem:", "quorem, "))]
    assert len(lines) == 2
    assert any("thesis.tex" in line and line.startswith("quorem: ") for line in lines)
    assert any("quorem, process 1: another process of the run has ended" in line for line in lines)


def test_two_processes_fine_tune_as_one_does(tmp_path, reviews, one):
    settings = ("--text-column", "review", "--label-column", "sentiment", "data.max_length=32", "train.epochs=2",
                "train.batch_size=7", "train.precision=fp32", "classifier.dropout=0")  # fmt: skip
    for finetune, name in ((run, "one"), (run_group, "two")):
        done = finetune("finetune", one, reviews, "--out", tmp_path / name, *settings)
        assert done.returncode == 0, done.stderr
    alone, both = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "two"))
    assert both["confusion"] == alone["confusion"]
    assert both["loss"] == pytest.approx(alone["loss"], rel=1e-4)
    expected = load_file(tmp_path / "one" / "model" / "model.safetensors")
    for key, value in load_file(tmp_path / "two" / "model" / "model.safetensors").items():
        assert (value - expected[key]).abs().max() < 1e-5, key
