"""Parse untrusted YAML and JSON: plain values, or one line that says what is wrong."""

import json
import re
from collections import Counter
from typing import Any

import yaml

PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")
YAML_ERRORS = (yaml.YAMLError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError)
"""Errors of the library for a tag that does not fit its value."""
MOST_VALUES = 100_000  # after all aliases are followed


def parse_yaml(text: str) -> Any:
    """Numbers, texts, lists and mappings of YAML 1.1; dates stay text, and tags of other types are refused.

    Raises:
        ValueError: for anything else, in one line.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ValueError(f"{error.problem or error.context}{place}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except YAML_ERRORS as error:
        raise ValueError(" ".join(str(error).split())) from error


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: if it is not valid, in one line.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


class _Loader(yaml.SafeLoader):
    """Makes plain values only."""


def _tag(name: str) -> str:
    return f"tag:yaml.org,2002:{name}"


NUMBERS = {  # without those of base 60, as 1:30 is
    _tag("int"): re.compile(r"[-+]?(0b[01_]+|0[0-7_]*|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$"),
    _tag("float"): re.compile(
        r"([-+]?[0-9][0-9_]*\.[0-9_]*([eE][-+][0-9]+)?|\.[0-9][0-9_]*([eE][-+][0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
}

_Loader.yaml_constructors = {
    tag: make for tag, make in yaml.SafeLoader.yaml_constructors.items() if tag in {None, *map(_tag, PLAIN)}
}
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, NUMBERS.get(tag, pattern)) for tag, pattern in resolvers if tag not in (_tag("timestamp"), _tag("value"))
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _check_keys(node: yaml.MappingNode) -> None:
    """Refuse a key that occurs twice, because one of its values would be ignored silently."""
    counts = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<")
    for key, count in counts.most_common(1):
        if count > 1:
            raise ValueError(f"the key {key} occurs {count} times (in the mapping of line {node.start_mark.line + 1})")


def _check_size(root: yaml.Node) -> None:
    """Refuse aliases that stand for themselves, or whose copies would be more than MOST_VALUES values."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = MOST_VALUES + 1  # what is met again inside itself
            inside: list[Any] = []
            if isinstance(node, yaml.SequenceNode):
                inside = node.value
            elif isinstance(node, yaml.MappingNode):
                _check_keys(node)
                inside = [part for pair in node.value for part in pair]
            sizes[id(node)] = 1 + sum(size(part) for part in inside)
        return sizes[id(node)]

    if size(root) > MOST_VALUES:
        raise ValueError(f"its aliases stand for more than {MOST_VALUES:,} values: write it without aliases")
