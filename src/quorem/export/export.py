"""Exporting: a run or a model folder, and a format, give a folder that appears whole or not at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from quorem.errors import UserError, check_choice
from quorem.export.electra import export_electra
from quorem.export.onnx import export_onnx
from quorem.export.remote_code import export_remote_code
from quorem.files import check_new, whole_folder
from quorem.lock import locked
from quorem.reporting.card import README, made_by, model_card

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
    check_new(place)
    with locked(place):
        check_new(place)  # another process may have finished it
        with whole_folder(place) as partial:
            lines = EXPORTERS[format](Path(run), partial, **options)
            made = made_by(run)
            for folder in (partial, *partial.iterdir()):
                if (folder / "config.json").is_file():
                    text = model_card(folder, made=made, format=format, license=license)
                    (folder / README).write_text(text, encoding="utf-8")
    return lines
