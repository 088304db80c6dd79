"""Settings of the documentation's builder (Sphinx), and the pages that are made from code: commands and settings."""

import argparse
import sys
from pathlib import Path

from sphinx.application import Sphinx

import quorem
from quorem.cli import CONFIGS, build_parser
from quorem.config.loading import leaves

project, author, release = "quorem", "The quorem developers", quorem.__version__
project_copyright = "The quorem developers"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme, html_title = "furo", f"quorem {release}"
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]  # pages also link to files of the repository
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True

REFERENCE = Path(__file__).parent / "reference"


def commands_page() -> str:
    """Every command with its help, as it prints it."""
    parser = build_parser()
    actions = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    parts = ["# Commands", "", "Every command prints this with `--help`.", ""]
    for name, command in actions[0].choices.items():
        parts += [f"## quorem {name}", "", "```text", command.format_help().rstrip(), "```", ""]
    return "\n".join(parts)


def settings_page() -> str:
    """Every setting of every command, with its default and what it is for."""
    parts = [
        "# Settings",
        "",
        "Give any of them as `section.key=value`, as `--section.key value` or in a file (`--config`).",
        "",
    ]
    for name, kind in CONFIGS.items():
        parts += [f"## quorem {name}", "", "| setting | default | what it is for |", "|---|---|---|"]
        for key, value, text in leaves(kind() if isinstance(kind, type) else kind):
            default = "" if value is None else f"`{value}`"
            parts.append(f"| `{key}` | {default} | {str(text).replace('|', chr(92) + '|')} |")
        parts.append("")
    return "\n".join(parts)


def write_reference(_: Sphinx) -> None:
    """Make the pages that follow from code."""
    REFERENCE.mkdir(exist_ok=True)
    for name, text in (("commands", commands_page()), ("settings", settings_page())):
        path = REFERENCE / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    sys.argv[0] = "quorem"
    app.connect("builder-inited", write_reference)
