"""Exporting: a run or a model folder, and a format, give a folder that appears whole or not at all."""

from collections.abc import Callable
from pathlib import Path

from quorem.errors import check_choice
from quorem.export.electra import export_electra
from quorem.files import check_new, whole_folder
from quorem.lock import held

EXPORTERS: dict[str, Callable[[Path, Path], list[str]]] = {
    "electra": export_electra,
}
"""By format: what fills an empty folder, and says what it has written."""


def export(run: str | Path, out: str | Path, *, format: str) -> list[str]:
    """Write the networks of a run in another format.

    Args:
        run: a finished run, or a model folder.
        out: the folder to write, which must not exist; it appears when it is complete.
        format: of EXPORTERS.

    Returns:
        What was written, a line each.

    Raises:
        UserError: for a run that cannot be read, or that the format has no room for.
    """
    check_choice("--format", format, EXPORTERS)
    place = Path(out)
    check_new(place)
    with held(place):
        check_new(place)  # another process may have finished it
        with whole_folder(place) as partial:
            return EXPORTERS[format](Path(run), partial)
