"""What trackers are told: a run's settings and numbers, an interrupted and resumed run being one run to each of them.

Accelerate has the trackers.
"""

import json
import logging
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from accelerate.tracking import get_available_trackers

from quorem.errors import UserError, check_choice
from quorem.files import write_text
from quorem.training.run_folder import Run, read_settings

logger = logging.getLogger(__name__)

PROJECT = "quorem"
TRACKERS = ("tensorboard", "wandb", "mlflow")
IDS = {"mlflow": "mlflow.json", "wandb": "wandb.json"}  # in the run folder: by which id the tracker knows the run


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
        run: its folder holds the files of TensorBoard and wandb, and by which id MLflow or wandb know it.
        done: steps the run has behind it; what was sent of later ones is taken back, or not sent again.

    Raises:
        UserError: if the tracker cannot be started, such as without its server or a login.
    """
    if name is None:
        yield
        return
    try:
        known = _mlflow_run(run) if name == "mlflow" and run.writes else None
        there = known.data.params if known else {}  # MLflow takes no other value for one that it has
        config = {key: value for key, value in settings(name, run).items() if key not in there}
        accelerator.init_trackers(PROJECT, config or None, {name: options(name, run, done=done, known=known)})
    except UserError:
        raise
    except Exception as error:  # each tracker has its own
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"train.tracker={name}: cannot be started ({reason}): mend that, or leave it out") from error
    if name == "mlflow" and run.writes:
        _remember(run, name, accelerator.trackers[0].tracker.info.run_id)
    sent = {metric.key: metric.step for metric in known.data.to_proto().metrics} if known else {}

    def send(step: int, numbers: Mapping[str, float]) -> None:
        """What MLflow has already of steps that are repeated would be there twice."""
        with _not_worth_a_run(name, run):
            accelerator.log({key: value for key, value in numbers.items() if step > sent.get(key, -1)}, step=step)

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
    """A tracker that fails is told nothing more, and training goes on: metrics.jsonl has every line."""
    try:
        yield
    except Exception as error:  # each tracker has its own
        run.listener = None
        logger.warning(
            "train.tracker=%s: has failed (%s): it gets no more of this run until it is started again; metrics.jsonl "
            "has everything",
            name,
            " ".join(str(error).split())[:300],
        )


def options(name: str, run: Run, *, done: int, known: Any = None) -> dict[str, Any]:
    """With which arguments Accelerate is to start a tracker.

    Args:
        name: the tracker's.
        run: what is tracked.
        done: as in `tracked`.
        known: MLflow's run to go on with, if there is one.
    """
    if name == "tensorboard":
        return {"purge_step": done + 1}  # what its files hold of later steps is passed over
    if name == "mlflow":
        return {"run_id": known.info.run_id} if known else {"run_name": run.folder.name}
    if run.writes and not (run.folder / IDS[name]).exists():
        _remember(run, name, secrets.token_hex(8))  # wandb would give a run that goes on a new one
    return {"dir": str(run.folder), "id": _known(run, name), "name": run.folder.name, "resume": "allow"}


def _remember(run: Run, name: str, number: str) -> None:
    write_text(run.folder / IDS[name], json.dumps({"run_id": number}) + "\n")


def _known(run: Run, name: str) -> str | None:
    """The id that a tracker knows the run by; None if it does not."""
    path = run.folder / IDS[name]
    return str(read_settings(path).get("run_id")) if path.exists() else None


def settings(name: str, run: Run) -> dict[str, Any]:
    """The run's settings by dotted name, lists as text; none if TensorBoard has them, where each time adds a folder."""
    if name == "tensorboard" and any((run.folder / PROJECT).glob("*/hparams.yml")):
        return {}
    return dict(_flat(read_settings(run.folder / "config.yaml")))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, ", ".join(map(str, value)) if isinstance(value, list) else value


def _mlflow_run(run: Run) -> Any:
    """The run of MLflow's to go on with; None if there is none, or none any more."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    # MLflow's own variable goes before what Accelerate is given.
    number = os.environ.get("MLFLOW_RUN_ID") or _known(run, "mlflow")
    if number is None:
        return None
    try:
        found = MlflowClient().get_run(number)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        found = None
    if found is None or found.info.lifecycle_stage == "deleted":
        logger.warning("%s: MLflow does not have its run %s any more: it gets a new one", run.folder, number)
        return None
    return found
