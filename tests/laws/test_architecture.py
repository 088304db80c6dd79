"""The rules of dependence in docs/architecture.md, and the house's limits, read from the source."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "quorem"
FILES = sorted(SOURCE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Dotted names of the modules a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("package", ["embeddings", "heads"])
def test_embeddings_and_heads_import_torch_and_each_other_only(package: str):
    allowed = ("torch", "quorem.embeddings", "quorem.heads", "math", "collections", "copy", "typing")
    for path in (SOURCE / package).glob("*.py"):
        assert not [name for name in imported(path) if not name.startswith(allowed)], path


def test_the_objective_imports_neither_hugging_face_nor_data():
    names = imported(SOURCE / "objective.py")
    assert not [name for name in names if name.startswith(("transformers", "tokenizers", "accelerate", "quorem.data"))]


def test_only_the_loop_and_its_processes_import_accelerate():
    users = [path.name for path in FILES if any(name.startswith("accelerate") for name in imported(path))]
    assert users == ["processes.py", "train.py"]


def test_only_the_command_line_prints():
    printing = [
        str(path.relative_to(SOURCE))
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert {name for name in printing if not name.startswith("commands/")} == {"cli.py", "guard.py"}


def test_no_pickle_and_no_file_above_400_lines():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 400, path
        assert "pickle" not in imported(path), path
        assert "torch.load(" not in text or "weights_only=True" in text, path


def test_no_module_is_named_after_nothing():
    assert not [path for path in FILES if path.stem in {"utils", "common", "helpers", "misc"}]
