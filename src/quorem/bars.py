"""Progress bars: on a terminal and in a notebook, not in a log."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def bar(items: Iterable[Any] | None = None, *, hidden: bool = False, **options: Any) -> "tqdm[Any]":
    """A bar of tqdm on standard error, shown where somebody can watch it.

    It is plain text in a notebook too, so that it needs no ipywidgets and stays readable in a saved notebook.

    Args:
        items: to go through; None for a bar that is moved by `update`.
        hidden: whether it is not to be shown anywhere.
        options: of tqdm.
    """
    return tqdm(items, disable=hidden or not is_watched(), dynamic_ncols=True, **options)


def is_watched() -> bool:
    """Whether standard error is a terminal or a cell of a notebook.

    tqdm's own test (disable=None) asks for a terminal only, which a notebook's cell is not.
    """
    return sys.stderr.isatty() or _in_notebook()


def _in_notebook() -> bool:
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module else None
    return getattr(shell, "kernel", None) is not None  # of Jupyter, VS Code, Colab; IPython in a terminal has none
