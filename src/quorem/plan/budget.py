"""Choose the model size for an amount of data and a machine, and the number of steps for a time limit."""

import logging
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from quorem.config.settings import PretrainConfig, TrainSettings
from quorem.data.documents import RowCounts
from quorem.data.readers import COMPRESSIONS
from quorem.data.readers.compression import open_data
from quorem.plan.dry_run import DryRun, measure_steps
from quorem.plan.presets import PRESETS, Preset
from quorem.silence import silence
from quorem.training.device import autocast_dtype
from quorem.training.loop import Program
from quorem.training.run_folder import Run
from quorem.training.timing import duration

logger = logging.getLogger(__name__)

SIZES = {"base": 500_000_000, "small": 50_000_000, "origin": 2_000_000, "tiny": 0}
"""The sizes that auto chooses from, the largest first, and the fewest tokens that each is worth: the paper's sizes
learn little on less than their settings are made for (docs/results.md, "What learns on a small budget")."""
MINUTES = 60.0  # time limit of a run by default
EFFICIENCY = 0.15  # share of the speed of a matrix product that a whole step reaches
PASSES = 3  # forward, and twice that backward
BYTES_A_TOKEN = 5  # of text, about
UNPACKED = 3  # times as large as a compressed file, about
LOOKED_AT = 2**20  # unpacked bytes of a log in which lines are counted
PRODUCT, PRODUCTS = 512, 20
MANY_PASSES = 16  # from here on repeated text gives far less than new text (arXiv:2305.16264); sessions sooner


def choose_size(tokens: float, minutes: float | None, precision: str) -> str:
    """The largest preset that suits the number of tokens and finishes in time on this machine.

    Args:
        tokens: number of tokens that the run will see.
        minutes: time limit of the run; an hour if None.
        precision: as train.precision.
    """
    operations_a_second = EFFICIENCY * speed(precision)
    for size, least in SIZES.items():
        seconds = tokens * operations_a_token(PRESETS[size]) / operations_a_second
        if tokens >= least and seconds <= 60 * (minutes or MINUTES):
            break
    limit = 60 * (minutes or MINUTES)
    more = f", more than the {duration(limit)} there are" if seconds > limit else ""
    logger.info(
        "model.size=auto: %s: about %s tokens would take it about %s on this machine%s (set model.size for another)",
        size, f"{tokens:,.0f}", duration(seconds), more,
    )  # fmt: skip
    return size


def operations_a_token(preset: Preset) -> float:
    """Multiplications and additions that a training step needs for each token, in the layers of both networks."""
    total = 0
    for layers, hidden, inner, heads, head_width in (preset.discriminator, preset.generator):
        total += layers * (4 * hidden * heads * head_width + 2 * hidden * inner)
    return 2.0 * PASSES * total


def speed(precision: str) -> float:
    """Operations a second of matrix products on this machine, measured briefly."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = autocast_dtype(precision, device) or torch.float32
    one = torch.ones(PRODUCT, PRODUCT, dtype=dtype, device=device)

    def products() -> float:
        began = time.perf_counter()
        for _ in range(PRODUCTS):
            one @ one
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    products()
    return 2.0 * PRODUCT**3 * PRODUCTS / min(products() for _ in range(3))


def tokens_of_files(files: Iterable[Path]) -> float:
    """About how many tokens there are in files, by their bytes."""
    return sum(
        file.stat().st_size * (UNPACKED if file.name.endswith(tuple(COMPRESSIONS)) else 1) / BYTES_A_TOKEN
        for file in files
    )


def events_of_files(files: Iterable[Path], format: str) -> float:
    """About how many events, each a token, there are in logs: rows of Parquet files, lines of others by their first.

    Args:
        files: with a row for each event.
        format: their reader, a key of READERS.

    Raises:
        UserError: for a file that cannot be read.
    """
    return sum(_rows_of_parquet(file) if format == "parquet" else _lines_of(file) for file in files)


def _rows_of_parquet(file: Path) -> int:
    from pyarrow import parquet  # there, for a reader of such files has looked into them

    return int(parquet.read_metadata(file).num_rows)


def _lines_of(file: Path) -> float:
    """Lines among the first bytes of a file, over the share of it that these are."""
    counts = RowCounts()
    with open_data(file, counts) as stream:
        lines = stream.read(LOOKED_AT).count(b"\n")
        share = 1.0 if not stream.read(1) else counts.share()
    return lines / max(share, 1e-9)


def tokens_seen(config: PretrainConfig, tokens: float) -> float:
    """Number of tokens that a run sees: from its steps if they are given, otherwise from its epochs."""
    train = config.train
    if train.max_steps is not None:
        return float(train.max_steps * train.batch_size * (config.data.max_length or 128))
    return tokens * train.epochs


def steps_within(
    minutes: float, program: Program, optimizer: torch.optim.Optimizer, train: TrainSettings, *, total_steps: int
) -> int:
    """Number of steps that fit into a time limit, at least 1. Measures a few steps, which change the program's weights.

    Args:
        minutes: time limit.
        program: discarded afterwards.
        optimizer: the program's optimizer.
        train: settings of the loop.
        total_steps: steps of the whole run without a time limit.
    """
    logger.info("measuring how long a step takes")
    with TemporaryDirectory() as folder, silence():
        run = Run(Path(folder) / "run", {})
        found = measure_steps(program, optimizer, replace(train, tracker=None), total_steps=total_steps, run=run)
    return steps_that_fit(minutes, found, epochs=train.epochs)


def steps_that_fit(minutes: float, found: DryRun, *, epochs: float) -> int:
    """Number of steps that fit into a time limit, at least 1, after a word on how often they read the data.

    Args:
        minutes: time limit.
        found: what a few steps took of a run without a time limit.
        epochs: passes over the data of that run.
    """
    steps = max(1, int(60 * minutes / found.seconds_a_step))
    passes = epochs * steps / found.total_steps
    logger.info(
        "%.3g s a step: %s steps in %s, %s over the data",
        found.seconds_a_step, f"{steps:,}", duration(60 * minutes), f"{passes:,.1f} passes",
    )  # fmt: skip
    if passes > MANY_PASSES:
        logger.warning(
            "more than %d passes over the same data teach little, and may overfit: give fewer minutes, a larger "
            "model.size or more data; data.held_out=0.02 shows whether it overfits",
            MANY_PASSES,
        )
    return steps
