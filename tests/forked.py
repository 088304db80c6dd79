"""Commands in processes of their own, forked from a server that has imported the library, which takes seconds."""

import faulthandler
import multiprocessing
import os
import socket
import subprocess
import tempfile
from pathlib import Path

import torch

from quorem.cli import main

PROCESSES = multiprocessing.get_context("forkserver")
COMMANDS = ("pretrain", "prepare", "merge", "finetune", "predict", "report", "sample", "serve")
LATER = (  # what commands import when they need it
    *("sklearn.feature_extraction.text", "sklearn.linear_model", "sklearn.model_selection"),
    *("matplotlib.figure", "jinja2", "quorem.serving.server"),
)
PROCESSES.set_forkserver_preload(["quorem.cli", *(f"quorem.commands.{name}" for name in COMMANDS), *LATER])


def start(*words, out, err, first=None, **environment):
    """Start a command; what it says is appended to the files `out` and `err`. It calls `first()` first, if given."""
    process = PROCESSES.Process(target=_command, args=([str(word) for word in words], out, err, first, environment))
    process.start()
    return process


def warm():
    """Start the server that forks, if it is not there yet, so that what comes next is as fast as it is later."""
    process = PROCESSES.Process(target=int)
    process.start()
    process.join()


def run(*words, first=None, **environment):
    """Run a command to its end."""
    return _ended(words, [environment], first)


def run_group(*words):
    """Run a command in two processes that know of each other."""
    return _ended(words, group())


def group(number=2):
    """What torchrun has in the environment of each process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free.getsockname()[1]}
    sizes = {"WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number}
    return [place | sizes | {"RANK": rank, "LOCAL_RANK": rank} for rank in range(number)]


def _ended(words, environments, first=None):
    """What all of them said, and the first code that is not 0."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        processes = [start(*words, out=out, err=err, first=first, **environment) for environment in environments]
        for process in processes:
            process.join()
        code = next((process.exitcode for process in processes if process.exitcode), 0)
        return subprocess.CompletedProcess(words, code, out.read_text(), err.read_text())


def _command(words, out, err, first, environment):
    torch.set_num_threads(1)
    os.environ.update({name: str(value) for name, value in environment.items()})
    for path, number in ((out, 1), (err, 2)):
        with open(path, "a") as file:
            os.dup2(file.fileno(), number)
    faulthandler.enable()  # what dies of a signal says where
    if first:
        first()
    raise SystemExit(main(words))
