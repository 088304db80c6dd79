"""Make what the next step needs while this one runs."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetch(make: Callable[[int], T], steps: Iterable[int]) -> Generator[tuple[int, T], None, None]:
    """Each step and what `make` gives for it, in order; a thread makes the next one while one is in use.

    Args:
        make: called in the thread, for one step after another; draws from no global random numbers. What it raises is
            raised when its step is due.
        steps: in order.
    """
    left = iter(steps)
    step = next(left, None)
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        made = None if step is None else pool.submit(make, step)
        while step is not None and made is not None:
            found, here = made.result(), step
            step = next(left, None)
            made = None if step is None else pool.submit(make, step)
            yield here, found
