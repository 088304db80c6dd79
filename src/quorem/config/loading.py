"""How settings are given: a YAML file, dotted overrides; unknown keys and values of the wrong type are errors."""

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from quorem.config.parsing import parse_json, parse_yaml
from quorem.errors import UserError, check_number, did_you_mean, shown

Settings = TypeVar("Settings")
LARGEST = 2**31 - 1  # whole numbers, if a setting does not say otherwise


def to_mapping(settings: Any) -> dict[str, Any]:
    """Nested plain dict of a settings object."""
    return dataclasses.asdict(settings)


def from_mapping(
    kind: type[Settings], values: Any, *, base: Settings | None = None, where: str = "", source: str = ""
) -> Settings:
    """Settings from a nested mapping.

    Args:
        kind: the dataclass.
        values: keys it has.
        base: where missing keys come from; the defaults if None.
        where: dotted prefix, for messages.
        source: the file the values come from, for messages.

    Raises:
        UserError: for an unknown key or a value of the wrong type.
    """
    place = f"{source}: " if source else ""
    if not isinstance(values, Mapping):
        name = where.rstrip(".") or "the settings"
        found_kind = f"{type(values).__name__} ({shown(values)})"
        raise UserError(f"{place}{name} must be a mapping of keys to values, not {found_kind}")
    hints, base = typing.get_type_hints(kind), kind() if base is None else base
    largest = {item.name: item.metadata.get("largest", LARGEST) for item in dataclasses.fields(typing.cast(Any, kind))}
    found: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            raise UserError(f"{place}unknown setting {where}{key}.{did_you_mean(str(key), hints)}")
        if dataclasses.is_dataclass(hints[key]):
            inner = typing.cast(type, hints[key])
            found[key] = from_mapping(inner, value, base=getattr(base, key), where=f"{where}{key}.", source=source)
        else:
            found[key] = _typed(hints[key], value, f"{place}{where}{key}", largest=largest[key])
    return dataclasses.replace(typing.cast(Any, base), **found)


def override(settings: Settings, assignments: Iterable[str]) -> Settings:
    """Settings with `section.key=value` assignments applied, values as in YAML.

    Raises:
        UserError: for a malformed assignment, an unknown key or a value of the wrong type.
    """
    values = to_mapping(settings)
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise UserError(f"{assignment!r} is not a setting: write section.key=value, for example train.epochs=3")
        _set(values, type(settings), name.split("."), text, name)
    return from_mapping(type(settings), values)


def load(kind: type[Settings], path: str | Path, *, base: Settings | None = None) -> Settings:
    """Settings from a YAML (or JSON) file.

    Args:
        kind: the dataclass.
        path: the file.
        base: where missing keys come from; the defaults if None.

    Raises:
        UserError: if the file is missing or malformed, or has unknown keys.
    """
    return from_mapping(kind, read_values(path), base=base, source=str(path))


def read_values(path: str | Path) -> Any:
    """What a YAML (or JSON) file of settings holds, a mapping if it is one.

    Raises:
        UserError: if the file is missing or malformed.
    """
    path = Path(path)
    kind_of_text, parse = ("JSON", parse_json) if path.suffix == ".json" else ("YAML", parse_yaml)
    try:
        values = parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    except ValueError as error:
        raise UserError(f"{path}: not valid {kind_of_text} ({error})") from error
    return values or {}


def check_bounds(settings: Any, prefix: str = "") -> None:
    """Check that the numbers of settings are inside their bounds.

    Args:
        settings: those of a command, or of one section.
        prefix: of their names, for messages: "data." for section data.

    Raises:
        UserError: naming the setting.
    """
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if dataclasses.is_dataclass(value):
            check_bounds(value, f"{prefix}{item.name}.")
        elif bounds := item.metadata["bounds"]:
            check_number(prefix + item.name, value, **bounds)


def dump(settings: Any) -> str:
    """YAML text of settings, complete."""
    return yaml.safe_dump(to_mapping(settings), sort_keys=False, allow_unicode=True)


def leaves(settings: Any, prefix: str = "", *, taken: bool = False) -> list[tuple[str, Any, str]]:
    """Every setting as (dotted name, value, description), for --help and the documentation.

    Args:
        settings: those of a command, or of one section.
        prefix: of their names.
        taken: leave out what the command refuses, for it is another's (`elsewhere`).
    """
    found = []
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if dataclasses.is_dataclass(value):
            found += leaves(value, f"{prefix}{item.name}.", taken=taken)
        elif not (taken and "elsewhere" in item.metadata):
            found.append((prefix + item.name, value, item.metadata["help"]))
    return found


def _set(values: dict[str, Any], kind: type, keys: list[str], text: str, name: str) -> None:
    hints = typing.get_type_hints(kind)
    if keys[0] not in hints:
        known = [leaf for leaf, _, _ in leaves(kind())]
        prefix = name[: len(name) - len(".".join(keys))]
        raise UserError(f"unknown setting {name}.{did_you_mean(name, [prefix + leaf for leaf in known])}")
    if len(keys) == 1:
        values[keys[0]] = _read(hints[keys[0]], text, name)
    elif dataclasses.is_dataclass(hints[keys[0]]):
        _set(values[keys[0]], typing.cast(type, hints[keys[0]]), keys[1:], text, name)
    else:
        raise UserError(f"{name}: {keys[0]} has no settings inside it")


def as_text(text: str, *, may_lack: bool = True) -> str | None:
    """The value of an assignment to a setting of text, without quotes around it; None where that may be and is said."""
    if may_lack and text in ("", "null", "none", "None"):
        return None
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _read(hint: Any, text: str, name: str) -> Any:
    """The value of an assignment, as YAML has it; a setting of text keeps it as it stands ("007", "no")."""
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if str in allowed and not (list[str] in allowed and text.startswith("[")):
        return as_text(text, may_lack=type(None) in allowed)
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise UserError(f"{name}={text}: the value is not valid YAML ({error})") from error


def _typed(hint: Any, value: Any, name: str, *, largest: int) -> Any:
    """A value of a setting's type.

    Args:
        hint: the type.
        value: as YAML has it.
        name: of the setting, for messages.
        largest: of whole numbers: nothing that is made may overflow.
    """
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in allowed:
        return None
    if bool in allowed and isinstance(value, bool):
        return value
    if int in allowed and isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > largest:
            raise UserError(f"{name}={shown(value)}: a whole number up to {largest} needed")
        return value
    if float in allowed and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-3 as text
        except (ValueError, OverflowError):
            pass
    if str in allowed and isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    if list[str] in allowed and isinstance(value, list) and all(isinstance(each, str) for each in value):
        return value
    expected = " or ".join("none" if kind is type(None) else getattr(kind, "__name__", str(kind)) for kind in allowed)
    raise UserError(f"{name}={shown(value)}: {expected} needed")
