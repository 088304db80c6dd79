"""From an error to the line that a person reads, and the exit code."""

import errno
import io
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from typing import Any

from wrapt import when_imported

from quorem.errors import UserError
from quorem.training.interrupt import Stopped, terminations_as_interrupts

DISC_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL = re.compile(rf"No space left|os error ({'|'.join(map(str, DISC_IS_FULL))})\b|requested and \d+ written")

LESS = (
    "a smaller train.micro_batch_size, which changes nothing but memory, train.gradient_checkpointing=true or a "
    "smaller data.max_length"
)


def guarded(command: Callable[[], None], *, again: Sequence[str]) -> int:
    """Run a command with its log on standard error, and turn errors a user can fix into one line and exit code 2.

    Args:
        command: what to run.
        again: the words that run it again, for one who stopped it.
    """
    rank = os.environ.get("RANK", "0")
    others = rank != "0"  # of a launcher's processes, the first one speaks for all
    speaker = f"quorem, process {rank}" if others else "quorem"
    level = logging.ERROR if others else logging.INFO
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr, force=True)
    for name in ("transformers", "accelerate", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    when_imported("transformers.utils.logging")(_quiet)
    try:
        with redirect_stdout(io.StringIO()) if others else nullcontext(), terminations_as_interrupts():
            command()
    except UserError as error:
        line = " ".join(str(error).split())  # a parser's message may have several
        print(f"{speaker}: {line}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        if not others:
            launched = "RANK" in os.environ  # by torchrun or accelerate, whose own words are not known here
            print(
                f"{stopped}; " + ("start the same again to resume" if launched else f"resume with: {shlex.join(again)}")
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
            print(f"{speaker}: the disc is full: nothing unfinished has a final name; {advice}", file=sys.stderr)
        elif isinstance(error, OSError) and error.strerror and error.filename:
            told = UserError(f"{error.filename}: {error.strerror}: check the path and its permissions")
            print(f"{speaker}: {told}", file=sys.stderr)
        elif memory.has_run_out(error):
            print(f"{speaker}: no memory is left: to train with less, use {LESS}", file=sys.stderr)
        elif processes.is_loss_of_another(error):
            print(f"{speaker}: another process has ended, and says why if it could", file=sys.stderr)
        else:
            raise
        return 2
    finally:
        if "quorem.training.processes" in sys.modules:
            sys.modules["quorem.training.processes"].destroy_process_group()
    return 0


def _quiet(transformers_logging: Any) -> None:
    """Lines and bars of transformers are no part of what a command says."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def _is_disc_full(error: BaseException | None) -> bool:
    """Whether a full disc is behind an error: OSError says so, native libraries in words, torch.save in the context."""
    while error is not None:
        if getattr(error, "errno", None) in DISC_IS_FULL or FULL.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
