"""The run folder: what a run writes, whole or not at all.

    config.yaml        every setting of the run; repeats it
    environment.json   versions, device, precision, seed, fingerprint of what it reads
    metrics.jsonl      one object a logged step
    result.json        written last: a run that has it is finished
    discriminator/, generator/ or model/    config.json, model.safetensors, tokenizer.json, vocab.txt
    data/              tokenizer, token shards, order and attributes of the tokens, made once
    state/step-NNNNNN/ weights, optimizer and counters, for resuming only, with their checksum
    quorem/ or wandb/  what TensorBoard or Weights & Biases wrote, where train.tracker asks for it

Every file but metrics.jsonl, which grows line by line, appears under a temporary name and is renamed when it is
complete and on the disc. Nothing a user loads is a pickle; checkpoints are read with weights_only.
"""

import hashlib
import json
import logging
import os
import platform
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import torch
import yaml

from quorem import processes
from quorem.errors import UserError

logger = logging.getLogger(__name__)

NOT_PART_OF_A_RUN = (
    "train.log_every", "train.checkpoint_every", "train.keep_checkpoints", "train.keep_state", "train.tracker",
    "train.shard_layers",
)  # fmt: skip
"""Settings that may differ when a run is continued."""

CHECKSUM = "sha256"  # of state.pt, beside it
CUT_SHORT = 2**62  # the step of a line that a crash has cut short


class Run:
    """A run folder, opened for writing; of several processes only the first writes, the others' calls do nothing.

    Args:
        folder: the folder; made if need be.
        config: the run's resolved settings, a nested mapping.

    Raises:
        UserError: if the folder holds something else, or a run with other settings.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.folder = folder
        self.writes = processes.rank() == 0
        self.listener: Callable[[Any, dict[str, float]], None] | None = None
        if not self.writes:
            return
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder}: is a file, but a folder is needed: choose another --out")
        present = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        if "config.yaml" not in present and present:
            raise UserError(
                f"{folder}: is not empty ({', '.join(present[:5])}) and holds no run: choose another --out or empty it"
            )
        if present:
            there = read_settings(folder / "config.yaml")
            if not {"data", "train"} <= there.keys() and config:
                raise UserError(f"{folder}: its config.yaml is not a run's: choose another --out")
            if set(present) <= {"config.yaml", "environment.json"}:  # a run that failed before it made anything
                (folder / "environment.json").unlink(missing_ok=True)
            else:
                self._check_same(there, config)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))

    @property
    def result(self) -> dict[str, Any] | None:
        """What the finished run gave; None if it is not finished."""
        path = self.folder / "result.json"
        return read_settings(path) if path.exists() else None

    def write_environment(self, *, inputs: Mapping[str, str], may_differ: Collection[str] = (), **facts: Any) -> None:
        """Write environment.json: versions and the machine, and the facts given.

        Args:
            inputs: fingerprints of the files the run reads, by what they are; must not change while it goes on.
            may_differ: keys of `inputs` that nothing has been made of yet, so that they may.
            facts: what else to note.

        Raises:
            UserError: if the run was begun with other inputs.
        """
        if not self.writes:
            return
        path = self.folder / "environment.json"
        if path.exists():
            there = read_settings(path).get("inputs")
            there = there if isinstance(there, dict) else {}  # of an earlier version
            changed = [name for name in inputs if there.get(name) != inputs[name] and name not in may_differ]
            if changed:
                named = ", ".join(changed)
                raise UserError(
                    f"{self.folder}: what it reads ({named}) has changed since it was begun: choose another --out"
                )
            if there == inputs:
                return
        names = ("quorem", "torch", "transformers", "tokenizers", "accelerate", "numpy")
        found = {
            "versions": {name: version(name) for name in names} | {"python": platform.python_version()},
            "platform": platform.platform(),
            "threads": torch.get_num_threads(),
            "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        }
        write_text(path, json.dumps(found | {"inputs": dict(inputs)} | facts, indent=2) + "\n")

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl, and tell `listener` its step and its numbers, such as held_out.accuracy."""
        if not self.writes:
            return
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(record)) + "\n")
        if self.listener is not None:
            numbers = {name: value for name, value in _flat(record) if isinstance(value, int | float)}
            self.listener(numbers.pop("step"), numbers)

    def records(self) -> list[dict[str, Any]]:
        """The objects of metrics.jsonl."""
        return read_records(self.folder)

    def forget_after(self, step: int) -> None:
        """Drop the lines of metrics.jsonl beyond `step`, which a resumed run will write again."""
        path = self.folder / "metrics.jsonl"
        if self.writes and path.exists():
            lines = [line for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) <= step]
            write_text(path, "".join(line + "\n" for line in lines))

    def finish(self, result: Mapping[str, Any], *, keep_state: bool = False) -> None:
        """Write result.json, and drop what only resuming needs, unless the state is to be kept."""
        if self.writes:
            write_text(self.folder / "result.json", json.dumps(dict(result), indent=2) + "\n")
        self.clean(keep_state=keep_state)
        processes.wait()

    def clean(self, *, keep_state: bool) -> None:
        """Drop what a finished run needs no more: again, for one that was killed on the way out."""
        if self.writes and not keep_state:
            shutil.rmtree(self.folder / "state", ignore_errors=True)

    def save_model(self, name: str, save: Callable[[Path], None]) -> None:
        """Let `save` fill the sub-folder `name`; an older one is replaced when the new one is complete."""
        if self.writes:
            with whole_folder(self.folder / name) as partial:
                save(partial)

    def save_state(self, step: int, state: Mapping[str, Any], *, keep: int, best: int | None = None) -> None:
        """Write a checkpoint to resume from after `step` steps; keep the last `keep`, and that of step `best`."""
        if not self.writes:
            return
        with (
            whole_folder(self.folder / "state" / f"step-{step:06d}") as partial,
            (partial / "state.pt").open("wb") as file,
        ):
            torch.save({**state, "step": step}, file)
            file.flush()
            write_text(partial / CHECKSUM, fingerprint_files(partial / "state.pt"))
        for old in _states(self.folder)[:-keep]:
            if old != self.folder / "state" / f"step-{best or 0:06d}":
                shutil.rmtree(old)

    def load_state(self) -> dict[str, Any] | None:
        """As `read_state`, of this run."""
        return read_state(self.folder)

    def load_best(self, step: int) -> dict[str, Any] | None:
        """The checkpoint of one step; None if it is not there, or damaged."""
        return _read(self.folder / "state" / f"step-{step:06d}", otherwise="it is not used")

    def _check_same(self, there: Any, config: Mapping[str, Any]) -> None:
        old, new = dict(_flat(there or {})), dict(_flat(config))
        changed = [
            f"{key}: {_shown(old.get(key))} there, {_shown(new.get(key))} here"
            for key in dict.fromkeys([*old, *new])
            if old.get(key) != new.get(key) and key not in NOT_PART_OF_A_RUN
        ]
        if changed:
            more = f"; and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise UserError(
                f"{self.folder}: already holds another run ({'; '.join(changed[:3])}{more}): choose another --out or "
                "delete it"
            )


def read_settings(path: Path) -> dict[str, Any]:
    """The mapping in a YAML or JSON file of a run.

    Raises:
        UserError: if it is damaged.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(
            f"{path}: cannot be read ({' '.join(str(error).split())}): restore or delete the run"
        ) from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: is damaged, it holds no mapping: restore or delete the run")
    return found


def read_state(folder: Path) -> dict[str, Any] | None:
    """A run's latest checkpoint that can be read; None if there is none.

    Raises:
        UserError: if there are some and none can be read.
    """
    states = _states(folder)
    for path in reversed(states):
        if (found := _read(path, otherwise="the one before is used")) is not None:
            return found
    if states:
        raise UserError(f"{folder / 'state'}: every checkpoint is damaged: delete the folder to start again")
    return None


def _read(path: Path, *, otherwise: str) -> dict[str, Any] | None:
    try:
        if (path / CHECKSUM).read_text(encoding="utf-8") != fingerprint_files(path / "state.pt"):
            raise ValueError(f"its bytes are not those of {CHECKSUM}")
        found: dict[str, Any] = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
        return found
    except Exception as error:  # a damaged file can fail in any way
        logger.warning("%s: damaged, %s (%s)", path, otherwise, " ".join(str(error).split())[:200])
        return None


def _states(folder: Path) -> list[Path]:
    found = (folder / "state").glob("step-*") if (folder / "state").is_dir() else []
    return sorted((path for path in found if path.suffix != ".partial"), key=lambda path: int(path.name.split("-")[1]))


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The objects of a run's metrics.jsonl, but for a last line that is not yet complete; none if there is no file."""
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if _step_of(line) < CUT_SHORT]


def fingerprint_files(*paths: Path) -> str:
    """sha256 over the bytes of files, in order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while piece := file.read(2**20):
                digest.update(piece)
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole: under a temporary name, synced, renamed; its folder is made if need be."""
    partial = path.with_name(path.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def new_file(path: Path) -> Iterator[TextIO]:
    """A text file to fill (UTF-8, line ends as they are written); it takes its name if all goes well, or vanishes.

    Missing folders are created.

    Raises:
        UserError: if the file exists or cannot be written.
    """
    if path.exists():
        raise UserError(f"{path} already exists: delete it or choose another name; it will not be overwritten.")
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("x", encoding="utf-8", newline="") as stream:
                yield stream
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}. Choose a folder you can write to.") from error


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder to fill; it takes the name `folder` if all goes well and vanishes if not."""
    partial, old = folder.with_name(folder.name + ".partial"), folder.with_name(folder.name + ".old")
    if old.exists() and not folder.exists():  # a crash between the two renames below
        os.replace(old, folder)
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        finish_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def finish_folder(partial: Path, folder: Path) -> None:
    """Give a folder its final name when all in it is on the disc; what stood there is replaced, or stays on failure."""
    old = folder.with_name(folder.name + ".old")
    try:
        for path in partial.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        if folder.exists():
            os.replace(folder, old)
        os.replace(partial, folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        if old.exists() and not folder.exists():
            os.replace(old, folder)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _shown(value: Any) -> Any:
    return "not set" if value is None else value


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line).get("step", 0))
    except ValueError:
        return CUT_SHORT
