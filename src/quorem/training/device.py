"""The device of a run, its precision, and moving tensors to it."""

import os
import shutil
from typing import Any

import torch
from accelerate.utils import recursively_apply, send_to_device

from quorem.errors import UserError, check_choice

PRECISIONS = ("auto", "bf16", "fp32")


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


def on_device(value: Any, device: torch.device) -> Any:
    """A tensor, or what is made of tensors, on the device; from locked memory, so that the host need not wait."""
    if device.type == "cuda":
        return recursively_apply(lambda tensor: tensor.pin_memory().to(device, non_blocking=True), value)
    return send_to_device(value, device)


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
