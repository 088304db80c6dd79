"""The training loop, for pre-training and fine-tuning alike, on Accelerate.

Everything random in a step is drawn from generators seeded by (seed, step), dropout included, so a resumed run repeats
an uninterrupted one, on the CPU bit for bit. Several processes share the rows of a step and take the same step as one
would; a run may be resumed by another number of them.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import patch_environment
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from tqdm import tqdm
from transformers.modeling_layers import GradientCheckpointingLayer

from quorem.bars import bar
from quorem.config.settings import TrainSettings
from quorem.data.batches import DROPOUT, step_seed
from quorem.data.prefetch import prefetch
from quorem.training import gradients, processes, sharding
from quorem.training.device import autocast_dtype, on_device
from quorem.training.interrupt import Interrupts, Stopped
from quorem.training.optimizer_state import load_moments, parameter_names
from quorem.training.run_folder import Run
from quorem.training.schedule import learning_rate_scale, warmup_steps
from quorem.training.timing import StepTimer
from quorem.training.tracking import tracked
from quorem.training.window import Window

logger = logging.getLogger(__name__)

KEPT = 2  # checkpoints: the last one may be damaged
REFERENCES = {"mlm_loss": ("unigram", "unigram_entropy"), "rtd_loss": ("base rate", "base_rate_entropy")}


class Program(Protocol):
    """What one kind of training brings to the loop."""

    @property
    def module(self) -> nn.Module:
        """What is trained."""

    def micro_batches(self, step: int, *, rank: int, num_processes: int) -> Iterator[Any]:
        """This process's share of a step, in pieces that fit in memory; called in another thread, a step ahead."""

    def loss(self, module: nn.Module, micro_batch: Any) -> Tensor:
        """A micro-batch's part of the step's loss, its tensors on the device: all processes' parts add up to it."""

    def record(self) -> dict[str, Any]:
        """Metrics since the last record, with `tokens`, the number of real tokens seen."""

    def reset(self) -> None:
        """Reset the sums since the last record."""

    def state_dict(self) -> dict[str, Tensor]:
        """What was seen since the last record, as sums, which may be added to those of another process."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the result of `state_dict`."""


def fit(
    program: Program,
    optimizer: torch.optim.Optimizer,
    *,
    settings: TrainSettings,
    total_steps: int,
    schedule: str,
    run: Run,
    after_step: Callable[[int], bool | None] | None = None,
    state: Callable[[], dict[str, Any]] | None = None,
    restore: Callable[[dict[str, Any]], bool | None] | None = None,
    on_record: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Train from the run's last checkpoint, or from the start, to `total_steps`.

    A step whose loss or gradient is not finite changes no weight; records count these as `skipped_steps`. Between
    records and checkpoints the host never waits for a GPU, so on a GPU such steps are logged at the next record or
    checkpoint.
    SIGINT or SIGTERM ends the run after the step at hand, with a checkpoint; a second one at once.

    Args:
        program: batches, loss and metrics; its module is moved to the device.
        optimizer: over the module's parameters; every group has a `base_lr`, and `found_inf`, a tensor, keeps it from
            doing anything if it is 1.0, as torch's fused optimizers have it.
        settings: of the loop; `warmup` below 1 is a share of total_steps.
        total_steps: steps in all.
        schedule: of the learning rate, see `quorem.training.schedule.learning_rate_scale`.
        run: where metrics and checkpoints go.
        after_step: called with the number of steps done, after each; for evaluation. If it says True, in every
            process, training ends.
        state: more to keep in a checkpoint; if it has `best_step`, the checkpoint of that step is kept too.
        restore: called with what `state` gave when the run is resumed. If it says True, training had ended before
            total_steps, and no step is taken.
        on_record: called with every line of metrics.jsonl.

    Raises:
        UserError: if too many steps in a row had to be skipped (`quorem.training.window`).
        Stopped: if a signal asked for it.
    """
    # The launcher's flags configure Accelerate itself; here the settings decide precision and sharding.
    with patch_environment(ACCELERATE_USE_FSDP="false", ACCELERATE_GRADIENT_ACCUMULATION_STEPS="1"):
        accelerator = Accelerator(
            cpu=not torch.cuda.is_available(), mixed_precision="no", log_with=settings.tracker, project_dir=run.folder
        )
    if settings.precision == "bf16" and autocast_dtype("auto", accelerator.device) is None:
        logger.warning("train.precision=bf16: this processor only emulates bf16: fp32 or auto is many times faster")
    module = program.module.to(accelerator.device)
    _set_up_layers(module, settings)
    window = Window(accelerator.device)
    start, ended = _resume(module, optimizer, run, program, window, restore)
    loop = _Loop(program, optimizer, settings, run, window, start=start, total_steps=total_steps, schedule=schedule)
    module.train()
    steps = prefetch(loop.prepare, range(start, start if ended else total_steps))
    tracker = tracked(accelerator, settings.tracker, run, done=start)
    with Interrupts() as interrupts, tracker, closing(steps), closing(loop.progress):
        for step, (micro_batches, example) in steps:
            done, last = step + 1, step + 1 == total_steps
            asked, norm = loop.take_step(step, micro_batches, example, asked=interrupts.asked)
            if done % settings.log_every == 0 or last:
                record = loop.record(done, norm)
                if on_record:
                    on_record(record)
            with loop.paused():
                if after_step:
                    last = bool(after_step(done)) or last
                    module.train()
                if settings.keep_state if last else asked or done % settings.checkpoint_every == 0:
                    loop.save(done, state() if state else {})
            if asked and not last:
                raise Stopped(f"{run.folder}: stopped after step {done:,} of {total_steps:,}, with a checkpoint")
            if last:
                break
    if loop.sharded:
        sharding.unshard(module)
    processes.wait_for_everyone()


class _Loop:
    """One call of `fit`: its step, its records and its checkpoints, with the clock that they share."""

    def __init__(
        self,
        program: Program,
        optimizer: torch.optim.Optimizer,
        settings: TrainSettings,
        run: Run,
        window: Window,
        *,
        start: int,
        total_steps: int,
        schedule: str,
    ) -> None:
        self.program, self.optimizer, self.settings, self.run, self.window = program, optimizer, settings, run, window
        self.module, self.device = program.module, window.loss.device
        self.total_steps, self.schedule, self.warmup = total_steps, schedule, warmup_steps(settings, total_steps)
        self.dtype = autocast_dtype(settings.precision, self.device)
        self.sharded = sharding.is_sharded(self.module)
        # On the CPU torch.manual_seed keeps the stack as text for each kind of device that is not there: 1 ms a step.
        self.seed = torch.default_generator.manual_seed if self.device.type == "cpu" else torch.manual_seed
        self.rank, self.num_processes = processes.rank(), processes.count()
        self.progress = bar(total=total_steps, initial=start, unit="step", hidden=self.rank > 0)
        self.timer, self.clock, self.scale = StepTimer(start, total_steps), time.perf_counter(), 0.0

    def prepare(self, step: int) -> tuple[list[Any], Any]:
        """This process's micro-batches of a step, on the device, and one of anybody's; called a step ahead."""
        own = self.program.micro_batches(step, rank=self.rank, num_processes=self.num_processes)
        moved = [on_device(micro_batch, self.device) for micro_batch in own]
        if moved:
            return moved, moved[0]
        last = self.num_processes - 1  # whose share is never empty
        others = self.program.micro_batches(step, rank=last, num_processes=self.num_processes)
        return moved, on_device(next(iter(others)), self.device)

    def take_step(self, step: int, micro_batches: Sequence[Any], example: Any, *, asked: bool) -> tuple[bool, Tensor]:
        """Take a step; whether any process was asked to stop, and the gradient's norm before it was clipped."""
        self.seed(step_seed(self.settings.seed, DROPOUT, step, *([self.rank] if self.rank else [])))
        self.scale = learning_rate_scale(
            step, total_steps=self.total_steps, warmup_steps=self.warmup, schedule=self.schedule
        )
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * self.scale
        idle = processes.all_reduce_max(len(micro_batches)) - len(micro_batches) if self.sharded else 0
        loss = compute_gradients(self.program, self.module, micro_batches, dtype=self.dtype, idle=[example] * idle)
        asked, loss = processes.all_reduce_gradients(self.module.parameters(), loss, flag=asked)
        norm = update(self.module, self.optimizer, self.window, loss, clip_norm=self.settings.clip_norm)
        self.progress.update()
        if self.device.type == "cpu" or step + 1 in self.timer.marks:  # looking costs nothing on the CPU
            self.window.check(step + 1)
            self.timer.note(step + 1)
        return asked, norm

    def record(self, done: int, norm: Tensor) -> dict[str, Any]:
        """Log what was seen since the last record, as a line of metrics.jsonl, which is returned."""
        record = {"step": done, **self.window.record(done, norm), "learning_rate_scale": self.scale}
        elapsed, self.clock = self.window.seconds + time.perf_counter() - self.clock, time.perf_counter()
        self.program.load_state_dict(processes.all_reduce_sum(self.program.state_dict()))
        if "loss" in record:
            record |= self.program.record()
            record["tokens_per_second"] = round(record.pop("tokens") / elapsed, 1)
            record["seconds_left"] = round((self.total_steps - done) * elapsed / self.window.taken, 1)
        else:
            self.program.reset()
        self.window.begin()
        self.run.log(record)
        _show(record, self.total_steps, self.progress)
        return record

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time that is not counted in tokens a second: evaluations and checkpoints."""
        self.pause = time.perf_counter()
        yield
        self.clock += time.perf_counter() - self.pause

    def save(self, done: int, extra: dict[str, Any]) -> None:
        """Write a checkpoint after so many steps; within `paused`."""
        self.window.check(done)
        saved = {
            "model": sharding.full_tensors(self.module.state_dict()),
            "optimizer": sharding.full_tensors(self.optimizer.state_dict()),
            "parameters": parameter_names(self.module, self.optimizer),
            "window": self.window.state_dict(self.pause - self.clock),
            "program": processes.all_reduce_sum(self.program.state_dict()),
            "extra": extra,
        }
        keep = 1 if done == self.total_steps else KEPT
        self.run.save_state(done, saved, keep=keep, best=extra.get("best_step"))


def _set_up_layers(module: nn.Module, settings: TrainSettings) -> None:
    for layer in module.modules():
        if not isinstance(layer, GradientCheckpointingLayer):
            continue
        if settings.gradient_checkpointing:  # PreTrainedModel's own switch has another name from release to release
            layer.gradient_checkpointing = True
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
        if settings.compile:
            layer.compile()


def compute_gradients(
    program: Program,
    module: nn.Module,
    micro_batches: Sequence[Any],
    *,
    dtype: torch.dtype | None,
    idle: Sequence[Any] = (),
) -> Tensor:
    """Gradients of this process's part of a step, and its part of the loss, float32 ().

    Waits for no device, unless gradients are sparse (`quorem.training.gradients.sum_rows`).

    Args:
        program: what is trained.
        module: its networks.
        micro_batches: this process's, on the device.
        dtype: of autocast; None for float32 throughout.
        idle: micro-batches to compute for nothing: all processes take part whenever a layer is made whole.
    """
    device = next(module.parameters()).device
    total = torch.zeros((), device=device)
    for micro_batch, counts in [*((each, True) for each in micro_batches), *((each, False) for each in idle)]:
        seen = {} if counts else {name: value.clone() for name, value in program.state_dict().items()}
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            loss = program.loss(module, micro_batch)
        if counts:
            loss.backward()
            total += loss.detach()
        else:
            (0.0 * loss).backward()
            program.load_state_dict(seen)
        gradients.sum_rows(module.parameters())  # otherwise they would grow from one micro-batch to the next
    return total


def update(
    module: nn.Module, optimizer: torch.optim.Optimizer, window: Window, loss: Tensor, *, clip_norm: float
) -> Tensor:
    """Clip gradients and take the optimizer's step, unless something is not finite. Waits as `compute_gradients` does.

    Args:
        module: has gradients, which are used up.
        optimizer: as in `fit`.
        window: counts the step.
        loss: of the whole step, float32 ().
        clip_norm: largest norm of the gradient.

    Returns:
        The gradient's norm before it was clipped, float32 ().
    """
    clip = sharding.clip if sharding.is_sharded(module) else gradients.clip
    norm = clip(module.parameters(), clip_norm)
    optimizer.found_inf = window.add(loss, norm)  # type: ignore[attr-defined]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


def _resume(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    run: Run,
    program: Program,
    window: Window,
    restore: Callable[[dict[str, Any]], bool | None] | None,
) -> tuple[int, bool]:
    """Load the last checkpoint, if there is one; the number of steps it had done, and whether training had ended."""
    saved = run.load_state()
    if saved is None:
        run.drop_records_after(0)
        return 0, False
    sharding.load(module, saved["model"])
    load_moments(optimizer, module, saved=saved["optimizer"]["state"], names=saved["parameters"])
    window.load_state_dict(saved["window"])
    if processes.rank() == 0:  # the sums of all processes are in it
        program.load_state_dict(saved["program"])
    run.drop_records_after(saved["step"])
    ended = bool(restore and restore(saved["extra"]))
    logger.info("%s: resumed after step %d", run.folder, saved["step"])
    return saved["step"], ended


def _reference(key: str, record: dict[str, Any]) -> str:
    """The reference of a loss: the loss of knowing frequencies alone."""
    name, entropy = REFERENCES.get(key, ("", ""))
    return f" ({name} {record[entropy]:.4f})" if record.get(entropy) is not None else ""


def _show(record: dict[str, Any], total_steps: int, progress: tqdm) -> None:
    shown = {
        key: record[key]
        for key in ("loss", "mlm_loss", "rtd_loss", "rtd_auc", "accuracy")
        if record.get(key) is not None
    }
    if not progress.disable:
        progress.set_postfix({key: f"{value:.3f}" for key, value in shown.items()})
        return
    numbers = "  ".join(f"{key} {value:.4f}{_reference(key, record)}" for key, value in shown.items())
    logger.info(
        "step %d/%d  %s  %.0f tokens/s  %.0f s left",
        record["step"], total_steps, numbers, record.get("tokens_per_second", 0), record.get("seconds_left", math.nan),
    )  # fmt: skip
