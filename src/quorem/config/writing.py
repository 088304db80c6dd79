"""All settings of a command as a file: YAML with what each is for, or a JSON Schema for editors."""

import dataclasses
import json
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any

import yaml

WIDTH = 100
JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
JSON_BOUNDS = {"above": "exclusiveMinimum", "at_least": "minimum", "below": "exclusiveMaximum", "at_most": "maximum"}


def commented_yaml(settings: Any) -> str:
    """YAML of every setting, in its section, under a comment that says what it is for; --config reads it."""
    return "".join(f"{line}\n" for line in _lines(settings, ""))


def json_schema(settings: Any) -> str:
    """The JSON Schema (draft 2020-12) of a file of settings, which editors complete and check by."""
    title = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": type(settings).__name__}
    return json.dumps(title | _schema(settings), indent=2) + "\n"


def _lines(settings: Any, indent: str) -> Iterator[str]:
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if dataclasses.is_dataclass(value):
            yield f"{indent}{item.name}:"
            yield from _lines(value, indent + "  ")
        elif "elsewhere" not in item.metadata:
            yield from textwrap.wrap(
                item.metadata["help"], WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
            )
            yield indent + yaml.safe_dump({item.name: value}, allow_unicode=True, width=10 * WIDTH).rstrip("\n")


def _schema(settings: Any) -> dict[str, Any]:
    hints, properties = typing.get_type_hints(type(settings)), {}
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if dataclasses.is_dataclass(value):
            properties[item.name] = _schema(value)
        elif "elsewhere" not in item.metadata:
            facts = {"description": item.metadata["help"], "default": value}
            bounds = {JSON_BOUNDS[name]: bound for name, bound in item.metadata["bounds"].items()}
            properties[item.name] = _type(hints[item.name]) | bounds | facts
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _type(hint: Any) -> dict[str, Any]:
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    found = [{"type": JSON_TYPES[kind]} if kind in JSON_TYPES else _list(kind) for kind in kinds]
    return found[0] if len(found) == 1 else {"anyOf": found}


def _list(kind: Any) -> dict[str, Any]:
    return {"type": "array", "items": _type(typing.get_args(kind)[0])}
