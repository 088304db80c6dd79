"""The pages: one file each, with its style and script in it, and what they show of a run written into it."""

import json
from pathlib import Path

from quorem.serving.operations import Served
from quorem.serving.settings import ServeSettings

FOLDER = Path(__file__).parent
FACTS = '"FACTS"'  # in a script of a page


def page(name: str, served: Served, settings: ServeSettings) -> str:
    """A page about a run.

    Args:
        name: of its file.
        served: the run.
        settings: its limits.
    """
    operations = [
        {
            "name": each.name, "what": each.what, "kind": each.kind.name, "field": each.kind.field,
            "example": each.kind.example, "result": each.example, "options": list(each.options),
        }
        for each in served.operations
    ]  # fmt: skip
    facts = {
        "run": served.name, "task": served.task, "model": served.model, "labels": served.labels,
        "operations": operations, "maxTexts": settings.max_texts, "maxBytes": settings.max_request_bytes,
    }  # fmt: skip
    text = json.dumps(facts).replace("<", "\\u003c")  # ends no script
    return (FOLDER / name).read_text(encoding="utf-8").replace(FACTS, text)
