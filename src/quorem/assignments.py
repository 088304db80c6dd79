"""Which words of a command line are settings: section.key=value, --section.key=value, --section.key value."""

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from quorem.config.loading import as_text, leaves
from quorem.files import is_named

SETTING = re.compile(r"(--)?[A-Za-z_]\w*(\.\w+)*=")
OPTION = re.compile(r"--[A-Za-z_]\w*(\.\w+)+")  # a setting whose value is the next word


def split_words(
    words: Sequence[str], command: argparse.ArgumentParser | None, configs: Iterable[Callable[[], Any]]
) -> tuple[list[str], list[str]]:
    """The words that are no settings, and the settings as section.key=value.

    The word after an option that takes one is no setting, nor is a file's name, such as year=2024/a.csv. Where a
    command takes no settings, only words with the name of one are told apart, so that it can say so.

    Args:
        words: of the command line.
        command: the parser of the command, whose `base` is its settings if it takes any; None for an unknown command.
        configs: all settings that there are.
    """
    actions = command._actions if command is not None else []
    valued = {option for action in actions if action.nargs != 0 for option in action.option_strings}
    takes_settings = command is None or command.get_default("base") is not None
    known = set() if takes_settings else {name for config in configs for name, *_ in leaves(config())}

    def is_setting(word: str) -> bool:
        match = SETTING.match(word)
        if match is None or (match[1] and "." not in match[0]):
            return False
        if not takes_settings:
            return match[0].removeprefix("--").rstrip("=") in known
        return not is_named(word)

    rest, found, left, before = list[str](), list[str](), iter(words), ""
    for word in left:
        if before in valued:
            rest.append(word)
        elif OPTION.fullmatch(word):
            value = next(left, None)
            if value is None:
                rest.append(word)  # argparse says that it is not known
            else:
                found.append(f"{word[2:]}={value}")
        elif is_setting(word):
            found.append(word.removeprefix("--"))
        else:
            rest.append(word)
        before = word
    return rest, found


def as_options(
    rest: list[str], assignments: list[str], command: argparse.ArgumentParser
) -> tuple[list[str], list[str]]:
    """Options for those settings of a command without settings that it has as options: its messages name the settings.

    Args:
        rest: the words that are no settings.
        assignments: the settings.
        command: its parser.

    Returns:
        The words with these options, and the settings that are left.
    """
    known, made, left = {option for action in command._actions for option in action.option_strings}, [], []
    reads = any(action.dest == "data" for action in command._actions)
    for assignment in assignments:
        name, _, text = assignment.partition("=")
        option = name.removeprefix("data.").replace("_", "-")
        if not (reads and name.startswith("data.") and f"--{option}" in known):
            left.append(assignment)
        elif text.lower() in ("true", "false") and f"--no-{option}" in known:
            made.append(f"--{option}" if text.lower() == "true" else f"--no-{option}")
        elif (value := as_text(text)) is not None:
            made.append(f"--{option}={value}")
    return [*rest[:1], *made, *rest[1:]], left
