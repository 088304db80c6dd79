"""Send a run's settings and numbers to trackers (by Accelerate). A resumed run stays one run in each tracker."""

import json
import logging
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from accelerate.tracking import get_available_trackers

from quorem.errors import UserError, check_choice
from quorem.files import write_text
from quorem.training.run_folder import Run, flat, read_settings

logger = logging.getLogger(__name__)

PROJECT = "quorem"
TRACKERS = ("tensorboard", "wandb", "mlflow")
WANDB_ID = "wandb.json"  # in the run folder: by which id wandb knows the run


def check_tracker(name: str) -> None:
    """Accept only a tracker that is known and installed.

    Raises:
        UserError: naming it.
    """
    check_choice("train.tracker", name, TRACKERS)
    if name not in {str(getattr(known, "value", known)) for known in get_available_trackers()}:
        raise UserError(f"train.tracker={name}: its package is not installed: pip install 'quorem[trackers]'")


@contextmanager
def tracked(accelerator: Any, name: str | None, run: Run, *, done: int) -> Iterator[None]:
    """Send a run's settings to a tracker, and what the run logs from now on.

    Args:
        accelerator: an Accelerator that was given the tracker's name.
        name: the tracker's; None for none.
        run: its folder holds the files of TensorBoard and wandb, and by which id wandb knows it.
        done: steps the run has behind it; what was sent of later ones is taken back, or not sent again.

    Raises:
        UserError: if the tracker cannot be started, such as without its server or a login.
    """
    if name is None:
        yield
        return
    try:
        accelerator.init_trackers(PROJECT, settings(name, run) or None, {name: options(name, run, done=done)})
    except UserError:
        raise
    except Exception as error:  # each tracker has its own
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"train.tracker={name}: cannot be started ({reason}): correct that, or leave it out") from error

    def send(step: int, numbers: Mapping[str, float]) -> None:
        with _not_worth_a_run(name, run):
            accelerator.log(dict(numbers), step=step)

    run.listener = send
    try:
        yield
    finally:
        run.listener = None
        for tracker in accelerator.trackers:
            with _not_worth_a_run(name, run):
                tracker.finish()


@contextmanager
def _not_worth_a_run(name: str, run: Run) -> Iterator[None]:
    """Training continues if a tracker fails; it gets no more lines, but metrics.jsonl has them all."""
    try:
        yield
    except Exception as error:  # each tracker has its own
        run.listener = None
        logger.warning(
            "train.tracker=%s: has failed (%s): it gets no more lines until the run is resumed; metrics.jsonl has them "
            "all",
            name,
            " ".join(str(error).split())[:300],
        )


def options(name: str, run: Run, *, done: int) -> dict[str, Any]:
    """With which arguments Accelerate is to start a tracker.

    Args:
        name: the tracker's.
        run: what is tracked.
        done: as in `tracked`.
    """
    if name == "tensorboard":
        return {"purge_step": done + 1}  # what its files hold of later steps is passed over
    if name == "mlflow":
        return {"run_name": run.folder.name}  # a run that is resumed is a new one there, of the same name
    if run.writes and not (run.folder / WANDB_ID).exists():  # wandb would give a resumed run a new one
        write_text(run.folder / WANDB_ID, json.dumps({"run_id": secrets.token_hex(8)}) + "\n")
    known = str(read_settings(run.folder / WANDB_ID).get("run_id")) if (run.folder / WANDB_ID).exists() else None
    return {"dir": str(run.folder), "id": known, "name": run.folder.name, "resume": "allow"}


def settings(name: str, run: Run) -> dict[str, Any]:
    """The run's settings by dotted name, lists as text; none if TensorBoard has them, where each time adds a folder."""
    if name == "tensorboard" and any((run.folder / PROJECT).glob("*/hparams.yml")):
        return {}
    found = dict(flat(read_settings(run.folder / "config.yaml")))
    return {key: ", ".join(map(str, value)) if isinstance(value, list) else value for key, value in found.items()}
