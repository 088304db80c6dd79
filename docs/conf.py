"""Settings of the documentation's builder (Sphinx), and the pages that are made from code: commands and settings."""

import argparse
import re
import shutil
import sys
from pathlib import Path

from sphinx.application import Sphinx

import quorem
from quorem.cli import CONFIGS, build_parser
from quorem.config.loading import leaves

project, author, release = "quorem", "The quorem developers", quorem.__version__
project_copyright = "The quorem developers"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme, html_title = "furo", f"quorem {release}"
html_static_path, html_css_files = ["style"], ["wide.css"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
nb_execution_mode = "off"  # `make docs` runs the notebooks (cache): what it shows are their outputs
nb_execution_timeout, nb_execution_raise_on_error = 1800, True
nb_output_stderr = "remove"  # progress bars
nb_render_markdown_format = "myst"  # with tables, which commonmark has not
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]  # pages also link to files of the repository
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True

REFERENCE = Path(__file__).parent / "reference"
NOTEBOOKS = Path(__file__).parent / "notebooks"  # copies: Sphinx reads what is below docs only
LINK_TO_NOTEBOOK = re.compile(r"\]\(\.\./(?=(?:\.\./)*notebooks/\w+\.ipynb\))")


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
        for key, value, text in leaves(kind() if isinstance(kind, type) else kind, taken=True):
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


def copy_notebooks(_: Sphinx) -> None:
    """Put the repository's notebooks among the pages; one that did not change keeps its time, and so its outputs."""
    NOTEBOOKS.mkdir(exist_ok=True)
    known = {path.name: path for path in (Path(__file__).parents[1] / "notebooks").glob("*.ipynb")}
    for path in NOTEBOOKS.glob("*.ipynb"):
        if path.name not in known:
            path.unlink()
    for name, path in known.items():
        copy = NOTEBOOKS / name
        if not copy.exists() or copy.read_bytes() != path.read_bytes():
            shutil.copyfile(path, copy)


def link_copies(_: Sphinx, __: str, source: list[str]) -> None:
    """Let links to the repository's notebooks lead to the copies, which lie a folder nearer."""
    source[0] = LINK_TO_NOTEBOOK.sub("](", source[0])


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    sys.argv[0] = "quorem"
    app.connect("builder-inited", write_reference)
    app.connect("builder-inited", copy_notebooks)
    app.connect("source-read", link_copies)
