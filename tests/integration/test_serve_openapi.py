"""What the server says of itself holds: schemathesis makes requests of its OpenAPI and judges the answers by it."""

import importlib.util
import subprocess
import sys

import pytest

pytest.importorskip("fastapi", reason="needs quorem[serve]")
pytest.importorskip("uvicorn", reason="needs quorem[serve]")
if importlib.util.find_spec("schemathesis") is None:
    pytest.skip("needs schemathesis", allow_module_level=True)

from running_server import running

CASES = ("--max-examples", "6", "--seed", "1", "--phases", "examples,coverage,fuzzing", "--no-color")


def test_answers_are_as_openapi_says(classifier, tmp_path):
    with running(classifier) as client:
        words = [sys.executable, "-m", "schemathesis.cli", "run", f"{client.address}/openapi.json", *CASES]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stdout
