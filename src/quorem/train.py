"""The training loop, for pre-training and fine-tuning alike, on Accelerate.

Everything random in a step is drawn from generators seeded by (seed, step), dropout included, so a resumed run repeats
an uninterrupted one, on the CPU bit for bit. Several processes share the rows of a step and take the same step as one
would; a run may be resumed by another number of them.
"""

import hashlib
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import patch_environment
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from tqdm import tqdm
from transformers.modeling_layers import GradientCheckpointingLayer

from quorem import processes, sharding
from quorem.data.ahead import ahead
from quorem.data.batches import DROPOUT, step_seed
from quorem.errors import UserError, check_choice
from quorem.interrupt import Interrupts, Stopped
from quorem.optim import learning_rate_scale, load_moments, parameter_names
from quorem.runs import Run
from quorem.settings import TrainSettings

logger = logging.getLogger(__name__)

PRECISIONS = ("auto", "bf16", "fp32")
TRACKERS = ("tensorboard", "wandb", "mlflow")
SKIPS_IN_A_ROW = 10
"""Steps whose loss or gradient is not finite are skipped; after so many in a row the run stops."""


class Program(Protocol):
    """What one kind of training brings to the loop."""

    @property
    def module(self) -> nn.Module:
        """What is trained."""

    def micro_batches(self, step: int, *, rank: int, num_processes: int) -> Iterator[Any]:
        """This process's share of a step, in pieces that fit in memory; called in another thread, a step ahead."""

    def loss(self, module: nn.Module, micro_batch: Any, device: torch.device) -> Tensor:
        """A micro-batch's part of the step's loss: the parts of all processes add up to it."""

    def record(self) -> dict[str, Any]:
        """Metrics since the last call, with `tokens`, the number of real tokens seen."""

    def reset(self) -> None:
        """Forget what was seen since the last record."""

    def state_dict(self) -> dict[str, Tensor]:
        """What was seen since the last record, as sums, which may be added to those of another process."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up what `state_dict` gave."""


def check_tracker(name: str) -> None:
    """Accept only a tracker that is known and installed.

    Raises:
        UserError: naming it.
    """
    check_choice("train.tracker", name, TRACKERS)
    if name not in {str(getattr(known, "value", known)) for known in get_available_trackers()}:
        raise UserError(f"train.tracker={name}: its package is not installed: pip install 'quorem[trackers]'")


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """bfloat16, or None for float32 throughout.

    Args:
        precision: bf16, fp32, or auto, which is bf16 where the device multiplies it natively.
        device: where the model is.

    Raises:
        UserError: for another precision.
    """
    check_choice("train.precision", precision, PRECISIONS)
    if precision == "fp32":
        return None
    if precision == "bf16":
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else None
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else None


def hardware(precision: str) -> dict[str, str]:
    """The device that `fit` will use and the precision it comes to, for environment.json."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {"device": str(device), "precision": "fp32" if autocast_dtype(precision, device) is None else "bf16"}


def fit(
    program: Program,
    optimizer: torch.optim.Optimizer,
    *,
    settings: TrainSettings,
    total_steps: int,
    schedule: str,
    run: Run,
    after_step: Callable[[int], None] | None = None,
    state: Callable[[], dict[str, Any]] | None = None,
    restore: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Train from the run's last checkpoint, or from the start, to `total_steps`.

    A step whose loss or gradient is not finite changes no weight; records count these as `skipped_steps`, and their
    windows begin anew after it. SIGINT or SIGTERM ends the run after the step at hand, with a checkpoint; a second one
    at once.

    Args:
        program: batches, loss and metrics; its module is moved to the device.
        optimizer: over the module's parameters; every group has a `base_lr`.
        settings: of the loop; `warmup` below 1 is a share of total_steps.
        total_steps: steps in all.
        schedule: of the learning rate, see `quorem.optim.learning_rate_scale`.
        run: where metrics and checkpoints go.
        after_step: called with the number of steps done, after each; for evaluation.
        state: more to keep in a checkpoint; if it has `best_step`, the checkpoint of that step is kept too.
        restore: called with what `state` gave when the run is resumed.

    Raises:
        UserError: if SKIPS_IN_A_ROW steps in a row had to be skipped.
        Stopped: if a signal asked for it.
    """
    with patch_environment(ACCELERATE_USE_FSDP="false"):  # layers are shared out already, where that is asked for
        accelerator = Accelerator(cpu=not torch.cuda.is_available(), log_with=settings.tracker, project_dir=run.folder)
    device, dtype = accelerator.device, autocast_dtype(settings.precision, accelerator.device)
    module, num_processes, rank = program.module.to(device), processes.count(), processes.rank()
    cut = sharding.is_sharded(module)
    _set_up_layers(module, settings)
    warmup = round(settings.warmup * total_steps if settings.warmup < 1 else settings.warmup)
    window = _Window(torch.zeros((), device=device))
    start = _resume(module, optimizer, run, program, window, restore)
    silent = True if rank else None  # None: where nobody looks on
    progress = tqdm(total=total_steps, initial=start, unit="step", disable=silent, dynamic_ncols=True)
    clock = time.perf_counter()
    module.train()

    def share(step: int) -> tuple[list[Any], Any]:
        own = list(program.micro_batches(step, rank=rank, num_processes=num_processes))
        others = program.micro_batches(step, rank=num_processes - 1, num_processes=num_processes)  # never empty
        return own, own[0] if own else next(iter(others))

    steps = ahead(share, range(start, total_steps))
    with Interrupts() as interrupts, _tracked(accelerator, run), closing(steps):
        for step, (micro_batches, any_of_them) in steps:
            torch.manual_seed(step_seed(settings.seed, DROPOUT, step, *([rank] if rank else [])))
            scale = learning_rate_scale(step, total_steps=total_steps, warmup_steps=warmup, schedule=schedule)
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * scale
            idle = processes.most(len(micro_batches)) - len(micro_batches) if cut else 0
            for micro_batch in micro_batches:
                with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                    loss = program.loss(module, micro_batch, device)
                accelerator.backward(loss)
                window.loss += loss.detach()
            for _ in range(idle):  # all take part whenever a layer is made whole
                with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                    loss = _idle_loss(program, module, any_of_them, device)
                accelerator.backward(loss)
            asked, spoilt = processes.add_gradients(
                module.parameters(), [interrupts.asked, not torch.isfinite(window.loss)]
            )
            if cut:
                norm = sharding.clip(module.parameters(), settings.clip_norm)
            else:
                norm = accelerator.clip_grad_norm_(module.parameters(), settings.clip_norm)
            done = step + 1
            if torch.isfinite(norm) and not spoilt:
                optimizer.step()
                window.steps, window.skipped_in_a_row = window.steps + 1, 0
            else:
                _skip(done, float(norm), window, program)
            optimizer.zero_grad(set_to_none=True)
            progress.update()
            if done % settings.log_every == 0 or done == total_steps:
                elapsed, clock = window.seconds + time.perf_counter() - clock, time.perf_counter()
                window.loss = processes.total({"loss": window.loss})["loss"]
                record = {"step": done, **window.record(float(norm)), "learning_rate_scale": scale}
                if window.steps:
                    program.load_state_dict(processes.total(program.state_dict()))
                    record |= program.record()
                    record["tokens_per_second"] = round(record.pop("tokens") / elapsed, 1)
                    record["seconds_left"] = round((total_steps - done) * elapsed / window.steps, 1)
                window.begin()
                run.log(record)
                _show(record, total_steps, progress)
            paused = time.perf_counter()
            if after_step:
                after_step(done)
                module.train()
            last = done == total_steps
            if settings.keep_state if last else asked or done % settings.checkpoint_every == 0:
                saved = {
                    "model": sharding.whole(module.state_dict()),
                    "optimizer": sharding.whole(optimizer.state_dict()),
                    "parameters": parameter_names(module, optimizer),
                    "window": window.state_dict(paused - clock),
                    "program": processes.total(program.state_dict()),
                    "extra": state() if state else {},
                }
                keep = 1 if last else settings.keep_checkpoints
                run.save_state(done, saved, keep=keep, best=saved["extra"].get("best_step"))
            if asked and not last:
                progress.close()
                raise Stopped(f"{run.folder}: stopped after step {done:,} of {total_steps:,}, with a checkpoint")
            clock += time.perf_counter() - paused  # evaluations and checkpoints are not counted in tokens a second
    progress.close()
    if cut:
        sharding.join(module)
    processes.wait()


def check_compiler() -> None:
    """Refuse to compile for the CPU without a compiler.

    Raises:
        UserError: if there is none.
    """
    if not torch.cuda.is_available() and not any(
        map(shutil.which, (os.environ.get("CXX", "g++").split()[0], "clang++"))
    ):
        raise UserError(
            "train.compile=true: no C++ compiler is installed (g++ or clang++): install one, or leave it out"
        )


def _set_up_layers(module: nn.Module, settings: TrainSettings) -> None:
    for layer in module.modules():
        if not isinstance(layer, GradientCheckpointingLayer):
            continue
        if settings.gradient_checkpointing:  # PreTrainedModel's own switch has another name from release to release
            layer.gradient_checkpointing = True
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
        if settings.compile:
            layer.compile()


def _idle_loss(program: Program, module: nn.Module, micro_batch: Any, device: torch.device) -> Tensor:
    """Nothing, by way of all layers: for a process that has fewer micro-batches than another."""
    seen = {name: value.clone() for name, value in program.state_dict().items()}
    loss = 0.0 * program.loss(module, micro_batch, device)
    program.load_state_dict(seen)
    return loss


@contextmanager
def _tracked(accelerator: Accelerator, run: Run) -> Iterator[None]:
    """Send what the run logs to the tracker that the accelerator was given, if any; its files are in the run folder."""
    if not accelerator.log_with:
        yield
        return
    # A run that goes on is the same one to wandb, which gives runs without an id a new one each time.
    name = hashlib.sha256(str(run.folder.absolute()).encode()).hexdigest()[:16]
    options = {"wandb": {"dir": str(run.folder), "id": name, "name": run.folder.name, "resume": "allow"}}
    accelerator.init_trackers("quorem", init_kwargs=options)
    run.listener = lambda step, numbers: accelerator.log(numbers, step=step)
    try:
        yield
    finally:
        run.listener = None
        for tracker in accelerator.trackers:
            tracker.finish()


@dataclass
class _Window:
    """What the loop has seen since the last record; `skipped` since the run began.

    Attributes:
        loss: sum over `steps` steps, float32 (), on the model's device.
        seconds: that a run before this one has spent on it.
    """

    loss: Tensor
    steps: int = 0
    seconds: float = 0.0
    skipped: int = 0
    skipped_in_a_row: int = 0

    def record(self, norm: float) -> dict[str, Any]:
        found = {"loss": float(self.loss) / self.steps, "gradient_norm": norm} if self.steps else {}
        if not math.isfinite(norm):
            found.pop("gradient_norm", None)
        return found | ({"skipped_steps": self.skipped} if self.skipped else {})

    def begin(self) -> None:
        self.loss.zero_()
        self.steps, self.seconds = 0, 0.0

    def state_dict(self, seconds: float) -> dict[str, Any]:
        loss = processes.total({"loss": self.loss})["loss"].cpu()
        found = {"loss": loss, "steps": self.steps, "seconds": self.seconds + seconds}
        return found | {"skipped": self.skipped, "skipped_in_a_row": self.skipped_in_a_row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if processes.rank() == 0:  # what the others saw is in it
            self.loss.copy_(state["loss"])
        for name in ("steps", "seconds", "skipped", "skipped_in_a_row"):
            setattr(self, name, state[name])


def _skip(step: int, norm: float, window: _Window, program: Program) -> None:
    """Count a step that changes nothing, and forget the numbers it has spoilt.

    Raises:
        UserError: if there were too many in a row.
    """
    window.skipped, window.skipped_in_a_row = window.skipped + 1, window.skipped_in_a_row + 1
    logger.warning("step %d: loss or gradient is not finite (norm %s): skipped", step, norm)
    if window.skipped_in_a_row == SKIPS_IN_A_ROW:
        raise UserError(
            f"step {step}: {SKIPS_IN_A_ROW} steps in a row had a loss or gradient that is not finite: training has "
            "diverged. Lower train.learning_rate, raise train.warmup or set train.precision=fp32, with another --out"
        )
    window.begin()
    program.reset()


def _resume(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    run: Run,
    program: Program,
    window: _Window,
    restore: Callable[[dict[str, Any]], None] | None,
) -> int:
    """Load the last checkpoint, if there is one; the number of steps it had done."""
    saved = run.load_state()
    if saved is None:
        run.forget_after(0)
        return 0
    sharding.load(module, saved["model"])
    load_moments(optimizer, module, saved=saved["optimizer"]["state"], names=saved["parameters"])
    window.load_state_dict(saved["window"])
    if processes.rank() == 0:  # what the others saw is in it
        program.load_state_dict(saved["program"])
    run.forget_after(saved["step"])
    if restore:
        restore(saved["extra"])
    logger.info("%s: resumed after step %d", run.folder, saved["step"])
    return saved["step"]


def _show(record: dict[str, Any], total_steps: int, progress: tqdm) -> None:
    shown = {
        key: record[key]
        for key in ("loss", "mlm_loss", "rtd_loss", "rtd_auc", "accuracy")
        if record.get(key) is not None
    }
    if not progress.disable:
        progress.set_postfix({key: f"{value:.3f}" for key, value in shown.items()})
        return
    numbers = "  ".join(f"{key} {value:.4f}" for key, value in shown.items())
    logger.info(
        "step %d/%d  %s  %.0f tokens/s  %.0f s left",
        record["step"], total_steps, numbers, record.get("tokens_per_second", 0), record.get("seconds_left", math.nan),
    )  # fmt: skip
