"""Turn an error into the one line that a person reads, and an exit code."""

import errno
import io
import logging
import os
import re
import select
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from functools import wraps
from typing import Any, ParamSpec

from wrapt import when_imported

from quorem.errors import UserError
from quorem.training.interrupt import Stopped, terminations_as_interrupts

P = ParamSpec("P")
DISC_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL = re.compile(rf"No space left|os error ({'|'.join(map(str, DISC_IS_FULL))})\b|requested and \d+ written")

LESS_MEMORY = (
    "a smaller train.micro_batch_size, which changes nothing but memory, train.gradient_checkpointing=true or a "
    "smaller data.max_length"
)


def quiet_without_reader(command: Callable[P, int]) -> Callable[P, int]:
    """The same, with exit code 141 (128 and the number of SIGPIPE, as shells have it) if nobody reads its output."""

    @wraps(command)
    def run(*words: P.args, **options: P.kwargs) -> int:
        try:
            try:
                return command(*words, **options)
            finally:  # help, too, which ends in SystemExit
                sys.stdout.flush()
        except BrokenPipeError:
            if not _has_no_reader():
                raise
            return 141

    return run


def guarded(command: Callable[[], None], *, again: Sequence[str]) -> int:
    """Run a command with its log on standard error, and turn errors a user can fix into one line and exit code 2.

    Args:
        command: what to run.
        again: the command line that runs it again, shown after an interrupt.
    """
    rank = os.environ.get("RANK", "0")
    others = rank != "0"  # only the first of a launcher's processes prints
    speaker = f"quorem, process {rank}" if others else "quorem"
    level = logging.ERROR if others else logging.INFO
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr, force=True)
    for name in ("transformers", "accelerate", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    when_imported("transformers.utils.logging")(_quiet)
    if isinstance(sys.stdout, io.TextIOWrapper):  # into a file or pipe, Windows does not write every character
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with redirect_stdout(io.StringIO()) if others else nullcontext(), terminations_as_interrupts():
            command()
            sys.stdout.flush()
    except BrokenPipeError:
        raise  # to quiet_without_reader
    except UserError as error:
        line = " ".join(str(error).split())  # a parser's message may have several
        print(f"{speaker}: {line}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        if not others:
            launched = "RANK" in os.environ  # by torchrun or accelerate, whose command line is not known here
            print(
                f"{stopped}; "
                + ("give the same command again to resume" if launched else f"resume with: {_quoted(again)}")
            )
    except KeyboardInterrupt:
        if not others:
            advice = "the same command resumes from the last checkpoint, if there is one"
            print(f"quorem: interrupted; {advice}", file=sys.stderr)
        return 130
    except Exception as error:
        from quorem.plan import memory  # which imports torch
        from quorem.training import processes

        if _is_disc_full(error):
            advice = "make room or choose another --out, then run the same command again"
            print(
                f"{speaker}: the disc is full: {advice} (no unfinished file was kept under its final name)",
                file=sys.stderr,
            )
        elif isinstance(error, OSError) and error.strerror and error.filename:
            unusable = UserError(f"{error.filename}: {error.strerror}: check the path and its permissions")
            print(f"{speaker}: {unusable}", file=sys.stderr)
        elif memory.has_run_out(error):
            print(f"{speaker}: out of memory: use {LESS_MEMORY}", file=sys.stderr)
        elif processes.is_loss_of_another(error):
            reason = " ".join(str(error).split())[:200]
            print(
                f"{speaker}: another process of the run has ended: see its message for the cause (here: {reason})",
                file=sys.stderr,
            )
        else:
            raise
        return 2
    finally:
        if "quorem.training.processes" in sys.modules:
            sys.modules["quorem.training.processes"].destroy_process_group()
    return 0


def _has_no_reader() -> bool:
    """Whether who reads our output has left, as head does; what is still to be written is dropped then."""
    try:
        output = sys.stdout.fileno()
    except io.UnsupportedOperation:  # it is caught in memory
        return False
    if hasattr(select, "poll"):  # Windows has none: there nothing else of ours is a pipe
        asked = select.poll()
        asked.register(output, 0)
        if not asked.poll(0):  # an error is told without being asked for
            return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)  # Python flushes once more when it ends
    return True


def _quoted(words: Sequence[str]) -> str:
    """A command line as this system's shell reads it."""
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)


def _quiet(transformers_logging: Any) -> None:
    """Silence log lines and progress bars of transformers."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def _is_disc_full(error: BaseException | None) -> bool:
    """Whether a full disc caused an error: by its errno, by the message of a native library, or by its context."""
    while error is not None:
        if getattr(error, "errno", None) in DISC_IS_FULL or FULL.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
