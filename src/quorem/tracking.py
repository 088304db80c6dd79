"""What trackers are told: a run's settings and numbers, an interrupted and resumed run being one run to each of them.

Accelerate has the trackers. Only the loop may import it, so that an accelerator comes in as an argument.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from quorem.errors import UserError
from quorem.runs import Run, read_settings, write_text

logger = logging.getLogger(__name__)

PROJECT = "quorem"
MLFLOW = "mlflow.json"  # in the run folder: the id that MLflow gave the run


@contextmanager
def tracked(accelerator: Any, name: str | None, run: Run, *, done: int) -> Iterator[None]:
    """Send a run's settings to a tracker, and what the run logs from now on.

    Args:
        accelerator: an Accelerator that was given the tracker's name.
        name: the tracker's; None for none.
        run: its folder holds the files of TensorBoard and wandb, and by which id MLflow knows it.
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
        write_text(run.folder / MLFLOW, json.dumps({"run_id": accelerator.trackers[0].tracker.info.run_id}) + "\n")
    sent = {metric.key: metric.step for metric in known.data.to_proto().metrics} if known else {}

    def send(step: int, numbers: Mapping[str, float]) -> None:
        """What MLflow has already of steps that are repeated would be there twice."""
        accelerator.log({key: value for key, value in numbers.items() if step > sent.get(key, -1)}, step=step)

    run.listener = send
    try:
        yield
    finally:
        run.listener = None
        for tracker in accelerator.trackers:
            tracker.finish()


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
    # A run that goes on is the same one to wandb, which gives runs without an id a new one each time.
    number = hashlib.sha256(str(run.folder.absolute()).encode()).hexdigest()[:16]
    return {"dir": str(run.folder), "id": number, "name": run.folder.name, "resume": "allow"}


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
    number = os.environ.get("MLFLOW_RUN_ID")
    if number is None:
        if not (run.folder / MLFLOW).exists():
            return None
        number = str(read_settings(run.folder / MLFLOW).get("run_id"))
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
