"""What a run logs reaches the trackers, without a network: its settings, and every step once, interrupted or not."""

import json
import os
import shutil
import signal
import warnings
from functools import partial

import forked
import pytest
import yaml

from quorem.training.run_folder import Run
from quorem.training.tracking import options


def read_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = folder / "quorem"
    found = EventAccumulator(str(logs))
    found.Reload()
    (settings,) = logs.glob("*/hparams.yml")
    assert len({path.parent for path in logs.rglob("events.out*")}) == 2  # the run's, and one for the settings
    return [[event.step, event.value] for event in found.Scalars("mlm_loss")], yaml.safe_load(settings.read_text())


def read_mlflow(folder):
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"file:{folder.parent}/mlruns")
    places = [each.experiment_id for each in client.search_experiments()]
    resumed, killed = client.search_runs(places)  # the last begun first
    assert (resumed.info.status, resumed.info.run_name, killed.info.run_name) == ("FINISHED", "run", "run")
    begun, rest = (client.get_metric_history(each.info.run_id, "mlm_loss") for each in (killed, resumed))
    assert [point.step for point in rest] == [5, 6]
    return [[point.step, point.value] for point in [*begun[:4], *rest]], resumed.data.params


def read_wandb(folder):
    """Of steps that are repeated its server takes the first. Offline there is a file a start, and no other reader."""
    from wandb.proto import wandb_internal_pb2

    settings, points, names = {}, {}, set()
    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        data, at, whole = path.read_bytes(), 7, b""
        names.add(path.name)
        while at + 7 <= len(data):  # LevelDB's log: blocks of records in one piece (1) or first, inner and last ones
            if at % 32768 > 32761:
                at += 32768 - at % 32768
                continue
            size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
            whole = data[at + 7 : at + 7 + size] if kind in (1, 2) else whole + data[at + 7 : at + 7 + size]
            at += 7 + size
            record = wandb_internal_pb2.Record.FromString(whole) if kind in (1, 4) else wandb_internal_pb2.Record()
            values = {(*each.nested_key, each.key)[0]: json.loads(each.value_json) for each in record.history.item}
            if "mlm_loss" in values:
                points.setdefault(values["_step"], values["mlm_loss"])
            settings |= {each.key: json.loads(each.value_json) for each in record.config.update}
    assert len(names) == 1
    return sorted(points.items()), settings


READ = {"tensorboard": read_tensorboard, "mlflow": read_mlflow, "wandb": read_wandb}


def stop_after_five_steps(number):
    log = Run.log

    def stopped(self, record):
        log(self, record)
        if record["step"] == 5:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.kill(os.getpid(), number)

    Run.log = stopped


KILLED = partial(stop_after_five_steps, signal.SIGKILL)
INTERRUPTED = partial(stop_after_five_steps, signal.SIGINT)


def run(*words, code=0, **more):
    done = forked.run(*words, **more)
    assert done.returncode == code, done.stderr


@pytest.fixture
def offline(tmp_path):
    return {
        "MLFLOW_TRACKING_URI": f"file:{tmp_path}/mlruns", "MLFLOW_ALLOW_FILE_STORE": "true", "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
    }  # fmt: skip


@pytest.fixture
def words(tmp_path, sample_csv, pretrain_settings):
    """Of a run with a line for each step, and checkpoints after the second and fourth."""
    out = ("--out", str(tmp_path / "run"))
    return ["pretrain", str(sample_csv), "--text-column", "review", *out, *pretrain_settings, "train.log_every=1"]


def read(tracker, folder, offline):
    """What a tracker has: [step, mlm_loss] of all records, and the settings. In this process, which has imported it."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(action="ignore"):
        for name, value in offline.items():
            patch.setenv(name, value)
        return READ[tracker](folder)


def check(tracker, folder, offline):
    """That a tracker has every step of metrics.jsonl once, and the settings."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    points, settings = read(tracker, folder, offline)
    assert [step for step, _ in points] == [line["step"] for line in lines]
    assert [value for _, value in points] == pytest.approx([line["mlm_loss"] for line in lines])
    assert settings["data.text_column"] == "review"
    assert int(settings["train.max_steps"]) == 6
    assert float(settings["model.discriminator.hidden_size"]) == 32
    assert str(settings["model.shared_embeddings"]) == "True"
    return settings


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb"])
def test_an_interrupted_run_is_one_run_with_every_step_once(tmp_path, tracker, words, offline):
    pytest.importorskip(tracker)
    words.append(f"train.tracker={tracker}")
    if tracker == "wandb":  # which writes to its file in blocks: one that is killed has less there
        run(*words, code=130, first=INTERRUPTED, **offline)
    else:
        run(*words, code=-signal.SIGKILL, first=KILLED, **offline)
    assert (tmp_path / "run" / "state" / "step-000004").is_dir()
    run(*words, **offline)
    check(tracker, tmp_path / "run", offline)


def test_metrics_and_settings_reach_mlflow_to_which_a_resumed_run_is_a_new_one_of_the_same_name(
    tmp_path, words, offline
):
    pytest.importorskip("mlflow")
    words.append("train.tracker=mlflow")
    run(*words, code=-signal.SIGKILL, first=KILLED, **offline)
    run(*words, **offline)
    check("mlflow", tmp_path / "run", offline)


def test_a_tracker_that_cannot_be_started_is_an_error(monkeypatch, refused, words):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    line = refused(*words, "train.tracker=mlflow", after_log=True)
    assert "train.tracker=mlflow: cannot be started" in line


def test_a_tracker_that_fails_ends_no_run(monkeypatch, quorem, tmp_path, words):
    tensorboard = pytest.importorskip("accelerate.tracking").TensorBoardTracker
    sent = []

    def fail(self, *_, **__):
        sent.append(self)
        raise OSError("the server is gone")

    monkeypatch.setattr(tensorboard, "log", fail)
    monkeypatch.setattr(tensorboard, "finish", fail)
    found = quorem(*words, "train.tracker=tensorboard")
    assert found.code == 0, found.err
    assert len(sent) == 2
    assert found.err.count("train.tracker=tensorboard: has failed (the server is gone)") == 2
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 6


def test_a_run_in_the_place_of_another_is_another_to_wandb(tmp_path):
    numbers = []
    for _ in range(2):
        numbers += [options("wandb", Run(tmp_path / "run", {"data": {}, "train": {}}), done=0)["id"] for _ in range(2)]
        shutil.rmtree(tmp_path / "run")
    assert numbers[0] == numbers[1] != numbers[2] == numbers[3]


def test_a_tracker_that_is_unknown_or_missing_is_named(refused, tmp_path, monkeypatch, sample_csv):
    words = ("pretrain", sample_csv, "--text-column", "review", "--out", tmp_path / "run")
    assert "train.tracker=wandbb: unknown. Did you mean wandb?" in refused(*words, "train.tracker=wandbb")
    monkeypatch.setattr("quorem.training.tracking.get_available_trackers", lambda: [])
    message = refused(*words, "train.tracker=mlflow")
    assert "its package is not installed: pip install 'quorem[trackers]'" in message
