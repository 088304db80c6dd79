"""Checkpoints of a run, from which it resumes: state/step-NNNNNN/ in its folder, with state.pt and its checksum.

They are written whole or not at all, and read with weights_only. A damaged one is passed over with a warning.
"""

import logging
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from quorem.errors import UserError
from quorem.files import TEMPORARY, fingerprint_files, whole_folder

logger = logging.getLogger(__name__)

CHECKSUM = "sha256"  # of state.pt, beside it
NAME = re.compile(rf"step-(\d{{6,}})({TEMPORARY}|\.old)?")  # and of what a kill leaves of one


def checkpoints(run: Path) -> dict[int, Path]:
    """The folders of a run's checkpoints by the steps that it had done, in order."""
    names = ((NAME.fullmatch(path.name), path) for path in (run / "state").glob("step-*"))
    return dict(sorted((int(name[1]), path) for name, path in names if name and not name[2]))


def write_checkpoint(run: Path, step: int, state: Mapping[str, Any], *, keep: int, best: int | None = None) -> None:
    """Write the checkpoint of a step; keep the last `keep` up to it, and that of step `best`."""
    with whole_folder(_folder(run, step)) as partial, (partial / "state.pt").open("wb") as file:
        torch.save({**state, "step": step}, file)
        file.flush()
        (partial / CHECKSUM).write_text(fingerprint_files(partial / "state.pt"), encoding="utf-8")
    there = checkpoints(run)  # one beyond this step could not be read: the run went back to before it
    kept = {there.get(best or 0), *[path for done, path in there.items() if done <= step][-keep:]}
    for path in (run / "state").glob("step-*"):
        if NAME.fullmatch(path.name) and path not in kept:
            shutil.rmtree(path)


def read_checkpoint(run: Path, step: int) -> dict[str, Any] | None:
    """The checkpoint of a step; None if it is not there, or damaged."""
    return _read(_folder(run, step), otherwise="it is not used")


def read_last_checkpoint(run: Path) -> dict[str, Any] | None:
    """A run's latest checkpoint that can be read; None if there is none.

    Raises:
        UserError: if there are some and none can be read.
    """
    there = checkpoints(run)
    for path in reversed(there.values()):
        if (found := _read(path, otherwise="the checkpoint before it is used")) is not None:
            return found
    if there:
        raise UserError(f"{run / 'state'}: every checkpoint is damaged: delete the folder to start again")
    return None


def _folder(run: Path, step: int) -> Path:
    return run / "state" / f"step-{step:06d}"


def _read(path: Path, *, otherwise: str) -> dict[str, Any] | None:
    try:
        if (path / CHECKSUM).read_text(encoding="utf-8") != fingerprint_files(path / "state.pt"):
            raise ValueError(f"its bytes are not those of {CHECKSUM}")
        found: dict[str, Any] = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
        return found
    except Exception as error:  # a damaged file can fail in any way
        logger.warning("%s: damaged, %s (%s)", path, otherwise, " ".join(str(error).split())[:200])
        return None
