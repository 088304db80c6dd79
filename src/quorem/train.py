"""The training loop, for pre-training and fine-tuning alike; the only file that imports Accelerate.

Everything random in a step is drawn from generators seeded by (seed, step), dropout included, so a resumed run repeats
an uninterrupted one, on the CPU bit for bit.
"""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from quorem.data.batches import DROPOUT, step_seed
from quorem.errors import UserError, check_choice
from quorem.optim import learning_rate_scale
from quorem.runs import Run
from quorem.settings import TrainSettings

logger = logging.getLogger(__name__)

PRECISIONS = ("auto", "bf16", "fp32")


class Program(Protocol):
    """What one kind of training brings to the loop."""

    @property
    def module(self) -> nn.Module:
        """What is trained."""

    def micro_batches(self, step: int, *, rank: int, num_processes: int) -> Iterator[Any]:
        """This process's share of a step, in pieces that fit in memory."""

    def loss(self, module: nn.Module, micro_batch: Any, device: torch.device) -> Tensor:
        """A micro-batch's part of the step's loss: the parts of all processes add up to it."""

    def record(self) -> dict[str, Any]:
        """Metrics since the last call, with `tokens`, the number of real tokens seen."""


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

    Args:
        program: batches, loss and metrics; its module is moved to the device.
        optimizer: over the module's parameters; every group has a `base_lr`.
        settings: of the loop; `warmup` below 1 is a share of total_steps.
        total_steps: steps in all.
        schedule: of the learning rate, see `quorem.optim.learning_rate_scale`.
        run: where metrics and checkpoints go.
        after_step: called with the number of steps done, after each; for evaluation.
        state: more to keep in a checkpoint.
        restore: called with what `state` gave when the run is resumed.

    Raises:
        UserError: if a loss is not finite.
    """
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    if accelerator.num_processes > 1:
        raise UserError(
            f"{accelerator.num_processes} processes: training runs in one process for now: start it without a launcher"
        )
    device, dtype = accelerator.device, autocast_dtype(settings.precision, accelerator.device)
    module, optimizer = accelerator.prepare(program.module, optimizer)
    warmup = round(settings.warmup * total_steps if settings.warmup < 1 else settings.warmup)
    start = logged = _resume(module, optimizer, run, restore)
    progress = tqdm(total=total_steps, initial=start, unit="step", disable=None, dynamic_ncols=True)
    clock, loss_sum = time.perf_counter(), torch.zeros((), device=device)
    module.train()
    for step in range(start, total_steps):
        torch.manual_seed(step_seed(settings.seed, DROPOUT, step))
        scale = learning_rate_scale(step, total_steps=total_steps, warmup_steps=warmup, schedule=schedule)
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * scale
        for micro_batch in program.micro_batches(step, rank=0, num_processes=1):
            with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                loss = program.loss(module, micro_batch, device)
            accelerator.backward(loss)
            loss_sum += loss.detach()
        norm = accelerator.clip_grad_norm_(module.parameters(), settings.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        done = step + 1
        progress.update()
        keep = done % settings.checkpoint_every == 0 and done < total_steps
        # A window of metrics ends where a checkpoint does, so that a resumed run logs what an uninterrupted one logs.
        if keep or done % settings.log_every == 0 or done == total_steps:
            elapsed, clock = time.perf_counter() - clock, time.perf_counter()
            steps, logged = done - logged, done
            record = {"step": done, "loss": float(loss_sum) / steps, "gradient_norm": float(norm)}
            _check_finite(record)
            record |= {"learning_rate_scale": scale, **program.record()}
            record["tokens_per_second"] = round(record.pop("tokens") / elapsed, 1)
            record["seconds_left"] = round((total_steps - done) * elapsed / steps, 1)
            loss_sum.zero_()
            run.log(record)
            _show(record, total_steps, progress)
        paused = time.perf_counter()
        if after_step:
            after_step(done)
            module.train()
        if keep:
            saved = {
                "model": module.state_dict(),
                "optimizer": optimizer.state_dict(),
                "extra": state() if state else {},
            }
            run.save_state(done, saved, keep=settings.keep_checkpoints)
        clock += time.perf_counter() - paused  # evaluations and checkpoints are not counted in tokens a second
    progress.close()


def _resume(
    module: nn.Module, optimizer: torch.optim.Optimizer, run: Run, restore: Callable[[dict[str, Any]], None] | None
) -> int:
    """Load the last checkpoint, if there is one; the number of steps it had done."""
    saved = run.load_state()
    if saved is None:
        run.forget_after(0)
        return 0
    module.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    run.forget_after(saved["step"])
    if restore:
        restore(saved["extra"])
    logger.info("%s: resumed after step %d", run.folder, saved["step"])
    return saved["step"]


def _check_finite(record: dict[str, Any]) -> None:
    if not (abs(record["loss"]) < float("inf") and record["gradient_norm"] < float("inf")):
        raise UserError(
            f"step {record['step']}: loss {record['loss']}, gradient norm {record['gradient_norm']}: training has "
            "diverged. Lower train.learning_rate or raise train.warmup; the last checkpoint is intact"
        )


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
        record["step"], total_steps, numbers, record["tokens_per_second"], record["seconds_left"],
    )  # fmt: skip
