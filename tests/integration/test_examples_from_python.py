"""What README and tutorial show from Python runs as it stands."""

import re
from pathlib import Path

import pytest

from quorem.samples import write_reviews

ROOT = Path(__file__).parents[2]
NEXT = "runs/next"  # of a command further up


@pytest.mark.parametrize(("page", "number"), [("README.md", 1), ("docs/tutorial.md", 2)])
def test_the_first_blocks_run(page, number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_reviews(tmp_path / "reviews.csv", rows=200)
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text[text.index("## From Python") :], re.DOTALL)[:number]
    assert len(blocks) == number
    names: dict[str, object] = {}
    for block in blocks:
        code = "\n".join(line for line in block.split("\n") if NEXT not in line)
        exec(compile(code, page, "exec"), names)
    assert names["classifier"].labels
