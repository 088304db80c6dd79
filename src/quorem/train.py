"""The training loop, for pre-training and fine-tuning alike, on Accelerate.

Everything random in a step is drawn from generators seeded by (seed, step), dropout included, so a resumed run repeats
an uninterrupted one, on the CPU bit for bit. Several processes share the rows of a step and take the same step as one
would; a run may be resumed by another number of them.
"""

import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import patch_environment, recursively_apply, send_to_device
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from tqdm import tqdm
from transformers.modeling_layers import GradientCheckpointingLayer

from quorem import gradients, processes, sharding
from quorem.data.ahead import ahead
from quorem.data.batches import DROPOUT, step_seed
from quorem.errors import UserError, check_choice
from quorem.interrupt import Interrupts, Stopped
from quorem.optim import learning_rate_scale
from quorem.optimizer_state import load_moments, parameter_names
from quorem.pace import Pace
from quorem.runs import Run
from quorem.settings import TrainSettings
from quorem.tracking import tracked
from quorem.window import Window

logger = logging.getLogger(__name__)

PRECISIONS = ("auto", "bf16", "fp32")
TRACKERS = ("tensorboard", "wandb", "mlflow")
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
    on_record: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Train from the run's last checkpoint, or from the start, to `total_steps`.

    A step whose loss or gradient is not finite changes no weight; records count these as `skipped_steps`. Between
    records and checkpoints the host never waits for a GPU, so there such steps are told of when one of these is due.
    SIGINT or SIGTERM ends the run after the step at hand, with a checkpoint; a second one at once.

    Args:
        program: batches, loss and metrics; its module is moved to the device.
        optimizer: over the module's parameters; every group has a `base_lr`, and `found_inf`, a tensor, keeps it from
            doing anything if it is 1.0, as torch's fused optimizers have it.
        settings: of the loop; `warmup` below 1 is a share of total_steps.
        total_steps: steps in all.
        schedule: of the learning rate, see `quorem.optim.learning_rate_scale`.
        run: where metrics and checkpoints go.
        after_step: called with the number of steps done, after each; for evaluation.
        state: more to keep in a checkpoint; if it has `best_step`, the checkpoint of that step is kept too.
        restore: called with what `state` gave when the run is resumed.
        on_record: called with every line of metrics.jsonl.

    Raises:
        UserError: if too many steps in a row had to be skipped (`quorem.window`).
        Stopped: if a signal asked for it.
    """
    # What a launcher sets is for what Accelerate does by itself; here precision and sharing out are the settings'.
    with patch_environment(ACCELERATE_USE_FSDP="false", ACCELERATE_GRADIENT_ACCUMULATION_STEPS="1"):
        accelerator = Accelerator(
            cpu=not torch.cuda.is_available(), mixed_precision="no", log_with=settings.tracker, project_dir=run.folder
        )
    device, dtype = accelerator.device, autocast_dtype(settings.precision, accelerator.device)
    if settings.precision == "bf16" and autocast_dtype("auto", device) is None:
        logger.warning("train.precision=bf16: this processor emulates it: fp32, or auto, is many times faster here")
    module, num_processes, rank = program.module.to(device), processes.count(), processes.rank()
    cut = sharding.is_sharded(module)
    _set_up_layers(module, settings)
    warmup, window = warmup_steps(settings, total_steps), Window(device)
    start = _resume(module, optimizer, run, program, window, restore)
    silent = True if rank else None  # None: where nobody looks on
    progress = tqdm(total=total_steps, initial=start, unit="step", disable=silent, dynamic_ncols=True)
    clock, pace = time.perf_counter(), Pace(start, total_steps)
    module.train()

    def share(step: int) -> tuple[list[Any], Any]:
        own = program.micro_batches(step, rank=rank, num_processes=num_processes)
        moved = [on_device(micro_batch, device) for micro_batch in own]
        if moved:
            return moved, moved[0]
        others = program.micro_batches(step, rank=num_processes - 1, num_processes=num_processes)  # never empty
        return moved, on_device(next(iter(others)), device)

    steps = ahead(share, range(start, total_steps))
    with Interrupts() as interrupts, tracked(accelerator, settings.tracker, run, done=start), closing(steps):
        for step, (micro_batches, any_of_them) in steps:
            torch.manual_seed(step_seed(settings.seed, DROPOUT, step, *([rank] if rank else [])))
            scale = learning_rate_scale(step, total_steps=total_steps, warmup_steps=warmup, schedule=schedule)
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * scale
            idle = [any_of_them] * (processes.most(len(micro_batches)) - len(micro_batches) if cut else 0)
            loss = compute_gradients(program, module, micro_batches, dtype=dtype, idle=idle)
            asked, loss = processes.add_gradients(module.parameters(), loss, flag=interrupts.asked)
            norm = update(module, optimizer, window, loss, clip_norm=settings.clip_norm)
            progress.update()
            done = step + 1
            if device.type == "cpu" or done in pace.marks:  # to look costs nothing on the CPU
                window.check(done)
                pace.note(done)
            if done % settings.log_every == 0 or done == total_steps:
                record = {"step": done, **window.record(done, norm), "learning_rate_scale": scale}
                elapsed, clock = window.seconds + time.perf_counter() - clock, time.perf_counter()
                program.load_state_dict(processes.total(program.state_dict()))
                if "loss" in record:
                    record |= program.record()
                    record["tokens_per_second"] = round(record.pop("tokens") / elapsed, 1)
                    record["seconds_left"] = round((total_steps - done) * elapsed / window.taken, 1)
                else:
                    program.reset()
                window.begin()
                run.log(record)
                _show(record, total_steps, progress)
                if on_record:
                    on_record(record)
            paused = time.perf_counter()
            if after_step:
                after_step(done)
                module.train()
            last = done == total_steps
            if settings.keep_state if last else asked or done % settings.checkpoint_every == 0:
                window.check(done)
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


def warmup_steps(settings: TrainSettings, total_steps: int) -> int:
    """Steps of warm-up: a share of all below 1, else a number."""
    return round(settings.warmup * total_steps if settings.warmup < 1 else settings.warmup)


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


def on_device(value: Any, device: torch.device) -> Any:
    """A tensor, or what is made of tensors, on the device; from locked memory, so that the host need not wait."""
    if device.type == "cuda":
        return recursively_apply(lambda tensor: tensor.pin_memory().to(device, non_blocking=True), value)
    return send_to_device(value, device)


def compute_gradients(
    program: Program,
    module: nn.Module,
    micro_batches: Sequence[Any],
    *,
    dtype: torch.dtype | None,
    idle: Sequence[Any] = (),
) -> Tensor:
    """Gradients of this process's part of a step, and its part of the loss, float32 ().

    Waits for no device, unless gradients are sparse (`quorem.gradients.sum_rows`).

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
        gradients.sum_rows(module.parameters())  # or they would grow from one micro-batch to the next
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


def _reference(key: str, record: dict[str, Any]) -> str:
    """What a loss is held against: that of knowing frequencies alone."""
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
