"""What a run logs reaches the trackers, without a network."""

import json
import os
import subprocess
import sys

import pytest

READ = {
    "tensorboard": """
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
import pathlib, sys
found = EventAccumulator(str(next(pathlib.Path(sys.argv[1]).rglob("events.out*")).parent))
found.Reload()
print([[event.step, event.value] for event in found.Scalars("mlm_loss")])
""",
    "mlflow": """
import mlflow
run, = mlflow.search_runs(search_all_experiments=True, output_format="list")
found = mlflow.MlflowClient().get_metric_history(run.info.run_id, "mlm_loss")
print([[point.step, point.value] for point in found])
""",
}


def run(*words, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow", "wandb"])
def test_metrics_reach_a_tracker(tmp_path, tracker, sample_csv, pretrain_settings):
    pytest.importorskip(tracker)
    settings = [*pretrain_settings, f"train.tracker={tracker}"]
    offline = {
        "MLFLOW_TRACKING_URI": f"file:{tmp_path}/mlruns", "MLFLOW_ALLOW_FILE_STORE": "true", "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
    }  # fmt: skip
    out = tmp_path / "run"
    run("-m", "quorem", "pretrain", str(sample_csv), "--text-column", "review", "--out", str(out), *settings, **offline)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    if tracker == "wandb":
        (log,) = out.glob("wandb/offline-run-*/run-*.wandb")
        assert b"mlm_loss" in log.read_bytes()
        return
    found = json.loads(run("-c", READ[tracker], str(out), **offline))
    assert [step for step, _ in found] == [line["step"] for line in lines]
    assert [value for _, value in found] == pytest.approx([line["mlm_loss"] for line in lines])


def test_a_tracker_that_is_unknown_or_missing_is_named(refused, tmp_path, monkeypatch, sample_csv):
    words = ("pretrain", sample_csv, "--text-column", "review", "--out", tmp_path / "run")
    assert "train.tracker=wandbb: unknown. Did you mean wandb?" in refused(*words, "train.tracker=wandbb")
    monkeypatch.setattr("quorem.train.get_available_trackers", lambda: [])
    message = refused(*words, "train.tracker=mlflow")
    assert "its package is not installed: pip install 'quorem[trackers]'" in message
