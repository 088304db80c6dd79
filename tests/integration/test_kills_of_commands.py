"""Every command killed several times at any moment: the same command then ends as one that was not killed."""

import multiprocessing
import os
import random
import shutil
import time

import forked
import pytest

from quorem.cli import main
from quorem.samples import write_reviews

KILLS = int(os.environ.get("QUOREM_KILLS", "2"))
TIMED = ("environment.json", "metrics.jsonl", "report.html")  # what tells of the clock
LABELS = ("--text-column", "review", "--label-column", "sentiment")


@pytest.fixture(scope="module")
def commands(tmp_path_factory, pretrained, classifier, pretrain_settings, finetune_settings):
    """By name: the words of a command but for --out and its output, which is last; an output's name."""
    data = tmp_path_factory.mktemp("data")
    for number in range(6):
        write_reviews(data / "parts" / f"{number}.csv", rows=80, seed=number)
    whole = data / "parts" / "0.csv"
    write_reviews(data / "many.csv", rows=800)
    prepared = ["--text-column", "review", "model.vocab_size=500"]
    for name, numbers in (("one", "0"), ("two", "1")):
        words = [*prepared, f"tokenizer.path={pretrained / 'data' / 'tokenizer'}"]
        words = [word for word in words if not word.startswith("model.")]
        assert main(["prepare", str(data / "parts" / f"{numbers}.csv"), "--out", str(data / name), *words]) == 0
    steps = [each for each in pretrain_settings if not each.startswith("model.")]
    return {
        "prepare": (["prepare", data / "parts", "--processes", "2", *prepared], "prepared"),
        "merge": (["merge", data / "one", data / "two"], "merged"),
        "finetune": (["finetune", pretrained, whole, *LABELS, *finetune_settings, "train.checkpoint_every=2"], "run"),
        "init-from": (["pretrain", whole, "--text-column", "review", "--init-from", pretrained, *steps], "run"),
        "predict": (["predict", classifier, data / "many.csv"], "found.csv"),
        "report": (["report", pretrained, classifier], "report.html"),
    }


def workers_forked():
    """The command's workers are forked from it: pythons that start anew, as in test_parts, import for seconds."""
    context = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda _: context


def contents(path):
    """Every file below a path, or the file itself, with its bytes where they do not tell of the clock."""
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    return {str(each.relative_to(path.parent)): None if each.name in TIMED else each.read_bytes() for each in files}


@pytest.mark.parametrize("name", ["prepare", "merge", "finetune", "init-from", "predict", "report"])
def test_kills_of_a_command_change_nothing_and_leave_nothing(tmp_path, commands, name):
    if name == "report":
        pytest.importorskip("matplotlib")
        pytest.importorskip("jinja2")
    words, output = commands[name]
    said = tmp_path / "said"

    def start(folder):
        folder.mkdir(exist_ok=True)
        return forked.start(*words, "--out", folder / output, out=said, err=said, first=workers_forked)

    forked.warm()
    began = time.monotonic()
    process = start(tmp_path / "whole")
    process.join()
    seconds, moments, ends = time.monotonic() - began, random.Random(name), 0
    assert process.exitcode == 0, said.read_text()
    expected = contents(tmp_path / "whole" / output)
    kills, folder = 0, tmp_path / "killed"
    while kills < KILLS:
        process = start(folder)
        process.join(moments.uniform(0.02, 0.9) * seconds)
        if process.exitcode is None:
            kills += 1
            process.kill()
            process.join()
            if (folder / output).exists() and contents(folder / output) == expected:  # done, killed on the way out
                shutil.rmtree(folder)
        elif process.exitcode == 0:  # it was faster than the kill: start anew
            ends += 1
            shutil.rmtree(folder)
        else:
            raise AssertionError(said.read_text())
        assert "Traceback" not in said.read_text()
        assert ends < 20 * KILLS
    process = start(folder)
    process.join()
    assert process.exitcode == 0, said.read_text()
    assert contents(folder / output) == expected
    left = [path.name for path in folder.iterdir() if path.name != output]
    assert [each for each in left if not each.endswith(".lock")] == []
