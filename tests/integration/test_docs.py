"""The documentation builds without a warning, and its links lead somewhere."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "howto").glob("*.md")),
    *sorted(ROOT.glob("*.md")),
    ROOT / "benchmarks" / "README.md",
]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_to_files(page):
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def give_output(path, markdown):
    """Store an output with the last cell of code, as if it had been run."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cell = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"][-1]
    cell["outputs"] = [{"output_type": "display_data", "metadata": {}, "data": {"text/markdown": markdown}}]
    path.write_text(json.dumps(notebook), encoding="utf-8")


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx")
    pytest.importorskip("furo")
    pytest.importorskip("myst_nb")
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("_build"))
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    give_output(tmp_path / "notebooks" / "Similar_Tunes.ipynb", "| tune | most alike |\n|---|---|\n| airs0 | airs2 |")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-b",
        "html",
        tmp_path / "docs",
        tmp_path / "site",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    commands = (tmp_path / "site" / "reference" / "commands.html").read_text(encoding="utf-8")
    assert "quorem pretrain" in commands
    assert "model.embedding.kind" in (tmp_path / "site" / "reference" / "settings.html").read_text(encoding="utf-8")
    assert "quorem.api.pretrain" in (tmp_path / "site" / "reference" / "python.html").read_text(encoding="utf-8")
    page = (tmp_path / "site" / "howto" / "similar.html").read_text(encoding="utf-8")
    assert 'href="../notebooks/Similar_Tunes.html"' in page
    notebook = (tmp_path / "site" / "notebooks" / "Similar_Tunes.html").read_text(encoding="utf-8")
    assert re.search(r"<td>\s*<p>airs2</p>\s*</td>", notebook)  # a table, as in a notebook
