"""Check that the contents of a JSON file have the types that its readers expect."""

from collections.abc import Mapping
from typing import Any

from quorem.errors import UserError, shown

NUMBER = "a number"
LARGEST_NUMBER = 1e300
NAMES = {dict: "a mapping", list: "a list", str: "a text", int: "a whole number"}


def is_number(value: Any) -> bool:
    """Whether it can be counted with: NaN too, but no number beyond those of float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and not abs(value) > LARGEST_NUMBER


def check_shape(value: Any, shape: Any, place: str) -> None:
    """Accept a value of that shape.

    Args:
        value: of JSON.
        shape: NUMBER; a type; [shape] for a list of such; {key: shape} for a mapping in which keys may lack and others
            may be; {...: shape} for a mapping all values of which are such.
        place: of the value, for the message: the file and the key.

    Raises:
        UserError: naming the innermost place that is not of it.
    """
    if shape == NUMBER:
        fits, expected = is_number(value), "a number"
    else:
        kind = shape if isinstance(shape, type) else type(shape)
        fits, expected = isinstance(value, kind), NAMES.get(kind, kind.__name__)
    if not fits:
        raise UserError(f"{place} is {shown(value)}, not {expected}: the file is damaged: restore or delete it")
    if isinstance(shape, list):
        for number, each in enumerate(value, start=1):
            check_shape(each, shape[0], f"{place}, {number}")
    if isinstance(shape, Mapping):
        for key, inside in shape.items():
            for name in value if key is ... else {key} & set(value):
                check_shape(value[name], inside, f"{place}, {name}")
