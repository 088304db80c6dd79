"""Runs that are killed, told to stop, out of disc or left with a damaged checkpoint end as if nothing had been."""

import io
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import forked
import pytest
import torch
from safetensors.torch import load_file
from small_networks import SMALL_NETWORKS

from quorem.config.loading import override
from quorem.config.settings import PretrainConfig
from quorem.pretraining.pretrain import pretrain
from quorem.samples import write_reviews
from quorem.training.device import autocast_dtype
from quorem.training.interrupt import Interrupts

KILLS = int(os.environ.get("QUOREM_KILLS", "4"))
STEPS = 24
NATIVE = autocast_dtype("auto", torch.device("cpu")) is not None
IN_TURN = ("fp32", "bf16") if NATIVE else ("fp32",)  # emulated bf16 takes 20 times as long; test_resume has it


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "reviews.csv"
    write_reviews(path, rows=200)
    return path


def words(reviews, *settings):
    return (
        f"data.path={reviews}", "data.text_column=review", "data.max_length=32", *SMALL_NETWORKS,
        "model.vocab_size=400", "model.embedding.kind=qr", "model.embedding.tier=60", "model.dropout=0.1",
        "train.batch_size=4", f"train.max_steps={STEPS}", "train.checkpoint_every=4", "train.log_every=3", *settings,
    )  # fmt: skip


def log(folder):
    return folder.parent / f"{folder.name}.log"


def start(settings, folder, first=None):
    return forked.start("pretrain", *settings, "--out", folder, out=log(folder), err=log(folder), first=first)


def finished(settings, folder, first=None):
    process = start(settings, folder, first)
    process.join()
    return process.exitcode


def said(folder):
    return log(folder).read_text()


def wait_for(folder, pattern):
    while not list(folder.glob(pattern)):
        time.sleep(0.01)


def outcome(folder):
    """Weights and curve of a run, without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [step for step in range(1, STEPS + 1) if step % 3 == 0]
    timed = ("tokens_per_second", "seconds_left")
    curve = [{key: value for key, value in line.items() if key not in timed} for line in lines]
    names = ("discriminator", "generator")
    return curve, {name: load_file(folder / name / "model.safetensors") for name in names}


def assert_same(folder, whole):
    (curve, weights), (expected_curve, expected) = outcome(folder), outcome(whole)
    assert curve == expected_curve
    assert [
        (name, key)
        for name in expected
        for key in expected[name]
        if not torch.equal(weights[name][key], expected[name][key])
    ] == []
    assert not (folder / "state").exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, reviews):
    """Uninterrupted runs, by precision, with the seconds they took."""
    found = {}
    forked.warm()
    for precision in IN_TURN:
        folder = tmp_path_factory.mktemp("whole") / precision
        began = time.monotonic()
        assert finished(words(reviews, f"train.precision={precision}"), folder) == 0
        found[precision] = folder, time.monotonic() - began
    return found


def test_kills_change_nothing(tmp_path, reviews, whole):
    """At any moment: while data is prepared, in steps, while checkpoints and models are written. Two runs are killed in
    turn. QUOREM_KILLS=50 tries so many."""
    moments, kills, ends = random.Random(0), 0, dict.fromkeys(IN_TURN, 0)

    def at(precision):
        return words(reviews, f"train.precision={precision}"), tmp_path / f"{precision}-{ends[precision]}"

    while kills < KILLS:
        precision = IN_TURN[kills % len(IN_TURN)]
        (settings, folder), (expected, seconds) = at(precision), whole[precision]
        process = start(settings, folder)
        process.join(moments.uniform(0, seconds))
        if process.exitcode is None:
            kills += 1
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        if process.exitcode == 0:
            ends[precision] += 1
            assert_same(folder, expected)
        else:
            assert process.exitcode == -signal.SIGKILL, said(folder)
    for precision in IN_TURN:
        settings, folder = at(precision)
        assert finished(settings, folder) == 0, said(folder)
        assert_same(folder, whole[precision][0])


def test_a_killed_sample_has_no_name_and_the_next_one_clears_what_it_left(tmp_path):
    words = ("items", "--rows", "20000", "--vocab-size", "1000")  # reviews are written by the same function
    folder, whole = tmp_path / "samples", tmp_path / "whole.txt"
    folder.mkdir()
    out = folder / "sample.txt"

    def start(out):
        return forked.start("sample", *words, "--out", out, out=log(folder), err=log(folder))

    forked.warm()
    began = time.monotonic()
    process = start(whole)
    process.join()
    seconds, moments = time.monotonic() - began, random.Random(0)
    for kill in range(4):
        process = start(out)
        begun = f"*.{process.pid}.partial"
        while kill == 3 and process.is_alive() and not list(folder.glob(begun)):  # once for sure while it is written
            time.sleep(0.001)
        process.join(moments.uniform(0, seconds / 2) if kill < 3 else 0)
        process.kill()
        process.join()
        if out.exists():  # it was faster
            assert out.read_bytes() == whole.read_bytes()
            out.unlink()
        left = {path.name for path in folder.iterdir()} - {".sample.txt.lock"}
        assert len(left) <= 1
        assert all(name.endswith(".partial") for name in left)
    assert left
    process = start(out)
    process.join()
    assert process.exitcode == 0, said(folder)
    assert out.read_bytes() == whole.read_bytes()
    assert list(folder.iterdir()) == [out]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_with_a_checkpoint_and_the_command_that_goes_on(tmp_path, reviews, whole, number):
    settings = words(reviews, "train.precision=fp32", "train.checkpoint_every=1000")
    process = start(settings, tmp_path / "run")
    wait_for(tmp_path, "run/metrics.jsonl")
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == 0
    assert f"{number.name}: stopping with a checkpoint after this step" in said(tmp_path / "run")
    (state,) = (tmp_path / "run" / "state").iterdir()
    step = int(state.name.removeprefix("step-"))
    assert 3 <= step < STEPS
    assert f"stopped after step {step} of {STEPS}, with a checkpoint; resume with: quorem pretrain" in said(
        tmp_path / "run"
    )
    assert not (tmp_path / "run" / "result.json").exists()
    assert finished(settings, tmp_path / "run") == 0
    assert f"resumed after step {step}" in said(tmp_path / "run")
    assert_same(tmp_path / "run", whole["fp32"][0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_does_what_it_did_before(number):
    def noticed(*_):
        raise KeyboardInterrupt

    before = signal.signal(number, noticed)
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), number)
            assert interrupts.asked
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
        assert signal.getsignal(number) is noticed
        with Interrupts():
            pass
        assert signal.getsignal(number) is noticed
    finally:
        signal.signal(number, before)


def test_training_in_a_thread_leaves_signals_alone():
    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(lambda: Interrupts().__enter__().asked).result()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.fixture(scope="module")
def killed(tmp_path_factory, reviews):
    """A run that was killed after its second checkpoint: tests copy it."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    process = start(words(reviews, "train.precision=fp32"), folder)
    wait_for(folder, "state/step-000008")
    process.kill()
    process.join()
    return folder


@pytest.mark.parametrize("harm", ["cut", "a byte", "no checksum"])
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_used(tmp_path, reviews, whole, killed, harm):
    settings, folder = words(reviews, "train.precision=fp32"), shutil.copytree(killed, tmp_path / "run")
    *_, before, last = sorted(path for path in (folder / "state").iterdir() if path.suffix != ".partial")
    content = bytearray((last / "state.pt").read_bytes())
    if harm == "cut":
        (last / "state.pt").write_bytes(content[:-1000])
    elif harm == "a byte":
        content[len(content) // 2] ^= 1
        (last / "state.pt").write_bytes(content)
    else:
        (last / "sha256").unlink()
    assert finished(settings, folder) == 0
    assert f"{last}: damaged, the checkpoint before it is used" in said(folder)
    assert f"resumed after step {int(before.name[5:])}" in said(folder)
    assert_same(folder, whole["fp32"][0])


def test_a_full_disc_ends_a_run_cleanly_and_it_goes_on_with_more_room(tmp_path, reviews, whole, killed):
    settings, folder = words(reviews, "train.precision=fp32"), shutil.copytree(killed, tmp_path / "run")
    size = min(path.stat().st_size for path in folder.glob("state/*/state.pt"))
    states = sorted(path.name for path in (folder / "state").iterdir() if path.suffix != ".partial")
    limits = (size // 2, resource.RLIM_INFINITY)
    assert finished(settings, folder, partial(resource.setrlimit, resource.RLIMIT_FSIZE, limits)) == 2
    assert "the disc is full" in said(folder)
    assert "Traceback" not in said(folder)
    assert sorted(path.name for path in (folder / "state").iterdir()) == states
    assert finished(settings, folder) == 0
    assert_same(folder, whole["fp32"][0])


def test_steps_that_are_not_finite_are_skipped_counted_and_limited(tmp_path, reviews, monkeypatch):
    from quorem.errors import UserError
    from quorem.pretraining.program import PretrainProgram
    from quorem.training import window

    loss = PretrainProgram.loss
    bad = {4, 5, 9}

    def spoilt(self, module, micro_batch):
        self.seen = getattr(self, "seen", 0) + 1
        return loss(self, module, micro_batch) * (float("nan") if self.seen in bad else 1.0)

    monkeypatch.setattr(PretrainProgram, "loss", spoilt)
    config = override(PretrainConfig(), [*words(reviews, "train.precision=fp32")])
    result = pretrain(config, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line.get("skipped_steps") for line in lines] == [None, 2, 3, 3, 3, 3, 3, 3]
    undefined = {"rtd_precision"}  # where nothing was taken for replaced: null
    assert all(math.isfinite(line[key]) for line in lines for key in line.keys() - undefined)
    assert "loss" in lines[1]  # of the one step that was not skipped
    assert "gradient_norm" not in lines[2]  # its last step was skipped
    assert len({line["rtd_loss"] for line in lines}) == len(lines)  # no record is stale
    assert result["mlm_loss"] > 0
    for name in ("discriminator", "generator"):
        assert all(
            value.isfinite().all() for value in load_file(tmp_path / "run" / name / "model.safetensors").values()
        )

    bad.update(range(1, 100))
    with pytest.raises(UserError, match=rf"step {window.SKIPS_IN_A_ROW}: {window.SKIPS_IN_A_ROW} steps in a row"):
        pretrain(config, tmp_path / "other")


def test_a_bar_ends_before_the_error_of_its_training(tmp_path, reviews, monkeypatch):
    from quorem.errors import UserError
    from quorem.pretraining.program import PretrainProgram

    terminal, loss = io.StringIO(), PretrainProgram.loss
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(PretrainProgram, "loss", lambda *arguments: loss(*arguments) * float("nan"))
    with pytest.raises(UserError, match="steps in a row") as caught:  # it holds the frames, and so what nobody closed
        pretrain(override(PretrainConfig(), [*words(reviews, "train.precision=fp32")]), tmp_path / "run")
    assert "step/s" in terminal.getvalue() or "s/step" in terminal.getvalue(), caught
    assert terminal.getvalue().endswith("\n")


@pytest.fixture
def small_disc(tmp_path):
    """A file system of its own, and what gives it another size in KB."""
    place = tmp_path / "disc"
    place.mkdir()

    def mount(kilobytes, *options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join([*options, f"size={kilobytes}k"]), "tmpfs", str(place)]
        try:
            return subprocess.run(command, capture_output=True, text=True).stderr
        except OSError as error:
            return str(error)

    if said := mount(100):
        pytest.skip(f"no file system can be mounted here: {said}")
    try:
        yield place, lambda kilobytes: mount(kilobytes, "remount")
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize(("kilobytes", "states"), [(250, []), (850, ["step-000004", "step-000008"])])  # of 285 KB each
def test_a_disc_that_is_really_full_ends_a_run_cleanly_and_it_goes_on_with_more_room(
    small_disc, reviews, whole, kilobytes, states
):
    folder, resize = small_disc
    settings = words(reviews, "train.precision=fp32")
    assert resize(kilobytes) == ""
    assert finished(settings, folder) == 2, said(folder)
    assert said(folder).splitlines()[-1].startswith("quorem: the disc is full: make room or choose another --out")
    assert said(folder).count("the disc is full") == 1
    assert "Traceback" not in said(folder)
    assert [path for path in folder.rglob("*") if path.suffix in (".partial", ".old")] == []
    assert sorted(path.name for path in (folder / "state").iterdir()) == states
    assert resize(100_000) == ""
    assert finished(settings, folder) == 0, said(folder)
    assert ("resumed after step 8" in said(folder)) == bool(states)
    assert_same(folder, whole["fp32"][0])
