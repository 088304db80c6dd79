"""The run folder: what a run writes, whole or not at all.

    config.yaml        every setting of the run; repeats it
    environment.json   versions, device, precision, seed, fingerprint of what it reads
    metrics.jsonl      one object a logged step
    result.json        written last: a run that has it is finished
    discriminator/, generator/ or model/    config.json, model.safetensors, tokenizer.json, vocab.txt, README.md
    data/              tokenizer, token shards, order and attributes of the tokens, made once
    state/step-NNNNNN/ weights, optimizer and counters, for resuming only, with their checksum
    quorem/, wandb/, wandb.json   files of train.tracker, or the id by which it knows the run

Every file but metrics.jsonl, which grows line by line, appears under a temporary name and is renamed when it is
complete and on the disc; what it replaces goes when its name is there too. Lines of metrics.jsonl are on the disc
before a checkpoint after them. One command at a time writes there (quorem.lock). Nothing a user loads is a pickle;
checkpoints are read with weights_only.
"""

import json
import logging
import os
import platform
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
import yaml

from quorem.config.loading import from_mapping, to_mapping
from quorem.config.parsing import parse_json, parse_yaml
from quorem.config.settings import TrainSettings
from quorem.errors import UserError
from quorem.files import TEMPORARY, whole_folder, write_bytes, write_text
from quorem.folders import sync
from quorem.lock import lock_name
from quorem.training import processes
from quorem.training.checkpoints import checkpoints, read_checkpoint, read_last_checkpoint, write_checkpoint

logger = logging.getLogger(__name__)

NOT_PART_OF_A_RUN = (
    "train.log_every", "train.checkpoint_every", "train.keep_state", "train.tracker",
    "train.shard_layers", "classifier.baseline",
)  # fmt: skip
"""Settings that may differ when a run is continued."""

NETWORKS = ("discriminator", "generator", "model")  # folders of a run that hold one
RUN_SECTIONS = {"data", "train"}  # of config.yaml, which other programs write too
COMPRESSED = "compressed.json"  # of a folder that quorem compress has written
README = "README.md"  # of a model folder (quorem.training.card)

LENGTH = ("train.max_steps", "train.epochs")
"""Settings that may differ when a run is lengthened (quorem.training.longer)."""

BEFORE_ANYTHING = ("environment.json", "bad_rows.txt")
"""What a run writes, beside its settings, before it makes anything."""
LEFT_BY_KILLS = re.compile(rf"(config\.yaml|environment\.json){TEMPORARY}")  # where nothing else is yet


class Run:
    """A run folder, opened for writing; of several processes only the first writes, the others' calls do nothing.

    Args:
        folder: the folder; made if need be.
        config: the run's resolved settings: those of a command, or a nested mapping.
        fixed: how names of settings begin that must not differ from those a folder was begun with; all others may,
            until training has left something. Empty: none may.

    Raises:
        UserError: if the folder holds something else, or a run with other settings.
    """

    def __init__(self, folder: Path, config: Any, *, fixed: Sequence[str] = ()) -> None:
        usual: Mapping[str, Any] = {}
        if not isinstance(config, Mapping):
            config, usual = to_mapping(config), to_mapping(type(config)())
        self.folder, self.config = folder, config
        self.writes = processes.rank() == 0
        self.listener: Callable[[Any, dict[str, float]], None] | None = None
        self.earlier: TrainSettings | None = None
        if present := check_run_folder(folder):
            there = read_settings(folder / "config.yaml")
            if not there.keys() >= RUN_SECTIONS and config:
                raise UserError(f"{folder}: its config.yaml is not the file of a run: choose another --out")
            if set(present) <= {"config.yaml", *BEFORE_ANYTHING}:  # a run that failed before it made anything
                for name in BEFORE_ANYTHING if self.writes else ():
                    (folder / name).unlink(missing_ok=True)
            else:
                self._check_same(there, usual, tuple(fixed) if fixed and not has_trained(self.folder) else ("",))
        if self.earlier is None:
            self._write_config()

    def accept(self) -> None:
        """Continue with other steps than the run was started for (`earlier`); it is no longer finished."""
        processes.wait_for_everyone()  # wait until every process has seen that it is finished
        if self.writes:
            (self.folder / "result.json").unlink(missing_ok=True)
            self._write_config()  # in this order, so that a kill in between leaves no run that looks finished

    @property
    def result(self) -> dict[str, Any] | None:
        """What the finished run gave; None if it is not finished."""
        path = self.folder / "result.json"
        return read_settings(path) if path.exists() else None

    def write_environment(self, *, inputs: Mapping[str, str], may_differ: Collection[str] = (), **facts: Any) -> None:
        """Write environment.json: versions and the machine, and the facts given.

        Args:
            inputs: fingerprints of the input files by their role; must not change while the run continues.
            may_differ: keys of `inputs` that the run has not used yet, so that they may change.
            facts: further facts to note; a run that resumes with other facts is warned.

        Raises:
            UserError: if the run was begun with other inputs.
        """
        if not self.writes:
            return
        path = self.folder / "environment.json"
        if path.exists():
            noted = read_settings(path)
            there = noted.get("inputs")
            there = there if isinstance(there, dict) else {}  # of an earlier version
            changed = [name for name in inputs if there.get(name) != inputs[name] and name not in may_differ]
            if changed:
                named = ", ".join(changed)
                raise UserError(
                    f"{self.folder}: its input ({named}) has changed since the run started: choose another --out"
                )
            if there == inputs and has_trained(self.folder):
                for name, value in facts.items():
                    if (before := noted.get(name, value)) != value and self.result is None:
                        logger.warning(
                            "%s: the run started with %s %s and continues with %s", self.folder, name, before, value
                        )
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
        """Append one line to metrics.jsonl, and pass `listener` its step and its numbers, such as held_out.accuracy."""
        if not self.writes:
            return
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(record)) + "\n")
        if self.listener is not None:
            numbers = {name: value for name, value in flat(record) if isinstance(value, int | float)}
            self.listener(numbers.pop("step"), numbers)

    def records(self) -> list[dict[str, Any]]:
        """The objects of metrics.jsonl."""
        return read_records(self.folder)

    def training_records(self) -> list[dict[str, Any]]:
        """The records of training steps; other records are about held-out rows."""
        return [record for record in self.records() if "held_out" not in record]

    def drop_records_after(self, step: int) -> None:
        """Drop the lines of metrics.jsonl beyond `step`, which a resumed run will write again.

        Raises:
            UserError: if a line up to there is damaged.
        """
        path = self.folder / "metrics.jsonl"
        if self.writes and path.exists():
            kept = takewhile(lambda found: found[0] <= step, _lines(path))  # steps never go down
            write_bytes(path, b"".join(line + b"\n" for _, line, _ in kept))

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write result.json, and drop what only resuming needs, unless the result has `keep_state`."""
        if self.writes:
            sync(*self.folder.glob("metrics.jsonl"), self.folder)
            write_text(self.folder / "result.json", json.dumps(dict(result), indent=2) + "\n")
        self.clean(result)
        processes.wait_for_everyone()

    def clean(self, result: Mapping[str, Any]) -> None:
        """Delete what a finished run no longer needs; repeated for a run that was killed while finishing."""
        if self.writes and not result.get("keep_state"):
            shutil.rmtree(self.folder / "state", ignore_errors=True)

    def save_model(self, name: str, save: Callable[[Path], None]) -> None:
        """Let `save` fill the sub-folder `name`; an older one is replaced when the new one is complete.

        Its README.md stays: somebody may have changed it.
        """
        if self.writes:
            with whole_folder(self.folder / name) as partial:
                save(partial)
                if (card := self.folder / name / README).is_file():
                    shutil.copyfile(card, partial / README)

    def save_state(self, step: int, state: Mapping[str, Any], *, keep: int, best: int | None = None) -> None:
        """Write a checkpoint to resume from after `step` steps; keep the last `keep`, and that of step `best`."""
        if not self.writes:
            return
        sync(*self.folder.glob("metrics.jsonl"), self.folder)
        write_checkpoint(self.folder, step, state, keep=keep, best=best)

    def last_checkpoint(self) -> int | None:
        """The steps it had done; None if there is none."""
        return max(checkpoints(self.folder), default=None)

    def load_state(self) -> dict[str, Any] | None:
        """As `read_last_checkpoint`, of this run."""
        return read_last_checkpoint(self.folder)

    def load_best(self, step: int) -> dict[str, Any] | None:
        """The checkpoint of one step; None if it is not there, or damaged."""
        return read_checkpoint(self.folder, step)

    def _write_config(self) -> None:
        if self.writes:
            text = yaml.safe_dump(dict(self.config), sort_keys=False, allow_unicode=True)
            write_text(self.folder / "config.yaml", text)

    def _check_same(self, there: Any, usual: Mapping[str, Any], fixed: tuple[str, ...]) -> None:
        """Compare settings; one that an earlier version did not have, and did not write, has its usual value."""
        old, new = {**dict(flat(usual)), **dict(flat(there or {}))}, dict(flat(self.config))
        different = [
            key
            for key in dict.fromkeys([*old, *new])
            if old.get(key) != new.get(key) and key not in NOT_PART_OF_A_RUN and key.startswith(fixed)
        ]
        changed = [f"{key}: {_shown(old.get(key))} there, {_shown(new.get(key))} here" for key in different]
        if changed and has_trained(self.folder) and not [key for key in different if key not in LENGTH]:
            values = {key: value for key, value in there["train"].items() if hasattr(TrainSettings, key)}
            self.earlier = from_mapping(TrainSettings, values, where="train.", source=str(self.folder))
            return
        if changed:
            more = f"; and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise UserError(
                f"{self.folder}: already holds another run ({'; '.join(changed[:3])}{more}): choose another --out or "
                "delete it"
            )


def check_run_folder(folder: Path) -> list[str]:
    """Names in a folder that may hold a run; empty if the folder is new.

    Raises:
        UserError: if it holds something else, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file, not a folder: choose another --out")
    names = {path.name for path in folder.iterdir()} - {lock_name(folder)} if folder.is_dir() else set()
    present = sorted(name for name in names if not LEFT_BY_KILLS.fullmatch(name))
    if COMPRESSED in present:
        raise UserError(f"{folder}: was written by quorem compress: choose another --out")
    if "config.yaml" not in present and present:
        raise UserError(
            f"{folder}: is not empty ({', '.join(present[:5])}) and holds no run: choose another --out or empty it"
        )
    return present


def places_around(folder: str | Path) -> list[Path]:
    """Where the run of a folder may be: the folder itself and, of a network or best/, those around it."""
    places = [Path(folder).resolve()]
    if places[0].name in NETWORKS:
        places.append(places[0].parent)
    if places[-1].name == "best":
        places.append(places[-1].parent)
    return places


def run_of(folder: str | Path) -> Path | None:
    """The run that a folder is, or that it belongs to as one of its networks or as best/; None if it is of no run.

    Raises:
        UserError: if its config.yaml is damaged.
    """
    files = (place / "config.yaml" for place in places_around(folder))
    return next((file.parent for file in files if file.is_file() and read_settings(file).keys() >= RUN_SECTIONS), None)


def has_trained(folder: Path) -> bool:
    """Whether training has left anything in a run folder."""
    return any((folder / name).exists() for name in ("metrics.jsonl", "state", "result.json"))


def read_settings(path: Path) -> dict[str, Any]:
    """The mapping in a YAML or JSON file of a run.

    Raises:
        UserError: if it is damaged.
    """
    try:
        found = (parse_json if path.suffix == ".json" else parse_yaml)(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}): restore or delete the run") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: is damaged (it holds no mapping): restore or delete the run")
    return found


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The objects of a run's metrics.jsonl, but for a last line that is not yet complete; none if there is no file.

    Raises:
        UserError: if another line is damaged.
    """
    return [record for *_, record in _lines(folder / "metrics.jsonl")]


def _lines(path: Path) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
    """Step, bytes and object of each line of metrics.jsonl, but for a last one that a crash has cut short."""
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line.decode()) if line.strip() else {}
            step = int(record.get("step", 0))
        except Exception as error:  # a damaged line can fail in any way
            if number == len(lines):  # no line end after it
                return
            raise UserError(f"{path}, line {number}: is damaged ({error}): restore or delete that line") from error
        if record:
            yield step, line, record


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings, by their dotted names."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _shown(value: Any) -> Any:
    return "not set" if value is None else value
