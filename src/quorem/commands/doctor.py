"""quorem doctor."""

import argparse
import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from textwrap import fill

import torch
from packaging.requirements import Requirement

import quorem
from quorem.plan.budget import speed
from quorem.plan.memory import free_bytes
from quorem.training.device import autocast_dtype, hardware

WIDTH = 100
NEEDED = ("transformers", "tokenizers", "accelerate", "numpy", "scikit-learn", "safetensors")


def run(options: argparse.Namespace) -> None:
    """Print what a bug report needs: versions, the machine, and which extras are installed."""
    facts = hardware("auto")
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    names = [name for name in ("amx_bf16", "avx512_bf16", "avx2", "neon") if capabilities.get(name)]
    lines = {
        "quorem": quorem.__version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
        "torch": torch.__version__,  # with its build: +cpu, +cu130
        **{name: _version(name) for name in NEEDED},
        "device": facts["device"] + (f" ({torch.cuda.get_device_name()})" if torch.cuda.is_available() else ""),
        "cores": f"{os.cpu_count()}, {torch.get_num_threads()} threads",
        "precision": f"{facts['precision']} ({', '.join(names) or 'no special instructions'})",
        "speed": f"{speed('auto') / 1e9:,.0f} billion operations a second in matrix products",
        "fp32 alone": f"{speed('fp32') / 1e9:,.0f}" if autocast_dtype("auto", torch.device("cpu")) else "the same",
        "free memory": f"{free_bytes() / 1e9:,.1f} GB",
        "free disc here": f"{shutil.disk_usage('.').free / 1e9:,.1f} GB",
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "not set"),
    }
    for name, value in lines.items():
        print(f"{name:<18}{value}")
    print("\nextras (pip install 'quorem[NAME]')")
    for extra, packages in _extras().items():
        if extra == "dev":  # all of the others, and what developers need
            continue
        missing = [name for name in packages if _version(name) == "not installed"]
        state = "installed" if not missing else f"without {', '.join(missing)}"
        print(fill(f"{extra:<18}{state}", WIDTH, subsequent_indent=" " * 18, break_on_hyphens=False))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _extras() -> dict[str, list[str]]:
    """The packages of each extra, by the metadata of the installed quorem."""
    needed = [Requirement(line) for line in requires("quorem") or []]
    return {
        extra: [each.name for each in needed if each.name != "quorem" and _is_of(each, extra) and not _is_of(each, "")]
        for extra in metadata("quorem").get_all("Provides-Extra", [])
    }


def _is_of(requirement: Requirement, extra: str) -> bool:
    """Whether an extra, or "" for none, brings a package on this machine."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})
