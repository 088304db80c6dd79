"""Progress bars: on a terminal and in a notebook, not in a log, and never on one line with what is logged."""

import logging
import sys
from collections.abc import Iterable
from functools import partial
from typing import Any

from tqdm import tqdm


def bar(items: Iterable[Any] | None = None, *, hidden: bool = False, **options: Any) -> "tqdm[Any]":
    """A bar of tqdm on standard error, shown where somebody can watch it.

    It is plain text in a notebook too, so that it needs no ipywidgets and stays readable in a saved notebook. What is
    logged while it is shown stands above it.

    Args:
        items: to go through; None for a bar that is moved by `update`.
        hidden: whether it is not to be shown anywhere.
        options: of tqdm.
    """
    return _Bar(items, disable=hidden or not is_watched(), dynamic_ncols=True, **options)


def is_watched() -> bool:
    """Whether standard error is a terminal or a cell of a notebook.

    tqdm's own test (disable=None) asks for a terminal only, which a notebook's cell is not.
    """
    return sys.stderr.isatty() or _in_notebook()


def _in_notebook() -> bool:
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module else None
    return getattr(shell, "kernel", None) is not None  # of Jupyter, VS Code, Colab; IPython in a terminal has none


class _Bar(tqdm):
    """Until it is closed, handlers that write where it is shown take it away first and put it back below their line.

    tqdm's logging_redirect_tqdm puts a handler of its own in their place, which forgets their levels and filters and
    passes over Python's last resort, by which warnings reach a notebook that has set up no logging.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._handlers = list[logging.Handler]()
        super().__init__(*arguments, **options)
        if self.disable:
            return
        for handler in _on_screen():
            if "emit" not in vars(handler):  # otherwise a bar around this one does it
                vars(handler)["emit"] = partial(_emit_above_bars, handler.emit)
                self._handlers.append(handler)

    def close(self) -> None:
        for handler in self._handlers:
            vars(handler).pop("emit", None)
        self._handlers.clear()
        super().close()


def _on_screen() -> list[logging.StreamHandler[Any]]:
    """Handlers that show what we log on standard output or error."""
    handlers = [*logging.getLogger("quorem").handlers, *logging.getLogger().handlers, logging.lastResort]
    return [
        each for each in handlers if isinstance(each, logging.StreamHandler) and each.stream in (sys.stdout, sys.stderr)
    ]


def _emit_above_bars(emit: Any, record: logging.LogRecord) -> None:
    with tqdm.external_write_mode(file=sys.stderr):
        emit(record)
