"""Exporting: a run or a model folder, and a format, give a folder that appears whole or not at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from quorem.errors import UserError, check_choice
from quorem.exporting.electra import export_electra
from quorem.exporting.onnx import export_onnx
from quorem.exporting.remote_code import export_remote_code
from quorem.files import new_folder
from quorem.training.card import made_by, write_new_cards

EXPORTERS: dict[str, Callable[..., list[str]]] = {
    "electra": export_electra,
    "onnx": export_onnx,
    "remote-code": export_remote_code,
}
"""By format: what fills an empty folder, and says what it has written."""


def export(
    run: str | Path, out: str | Path, *, format: str, int8: bool = False, license: str | None = None
) -> list[str]:
    """Write the networks of a run in another format.

    Args:
        run: a finished run, or a model folder.
        out: the folder to write, which must not exist; it appears when it is complete.
        format: of EXPORTERS.
        int8: onnx: matrices and tables in eight bits.
        license: of the weights, for the model card.

    Returns:
        What was written, a line each.

    Raises:
        UserError: for a run that cannot be read, or that the format has no room for.
    """
    check_choice("--format", format, EXPORTERS)
    if int8 and format != "onnx":
        raise UserError(f"--int8: only --format onnx has it, not {format}: leave it out")
    options: dict[str, Any] = {"int8": True} if int8 else {}
    place = Path(out)
    with new_folder(place) as partial:
        lines = EXPORTERS[format](Path(run), partial, **options)
        write_new_cards(partial, made_by(run), format=format, license=license)
    return lines
