"""The rules of dependence in docs/architecture.md, and the house's limits, read from the source."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "quorem"
FILES = sorted(SOURCE.rglob("*.py"))


ORDER = (
    ("errors", "folders", "files", "lock", "bars", "silence"),
    *(
        (name,)
        for name in ("config", "tokenization", "data", "embeddings", "heads", "arrangement", "models", "training")
    ),
    *(
        (name,)
        for name in (
            "training",
            "plan",
            "pretraining",
            "finetuning",
            "recommending",
            "vectors",
            "tasks",
            "reporting",
            "exporting",
        )
    ),
    ("samples", "origin", "auto"),
    ("loaded",),
    ("api", "serving"),
    ("guard", "assignments", "cli", "commands"),
    ("", "__main__"),
)
"""Rooms and the files beside them, from the ground up: what is above imports what is below, never the other way."""
FLOOR = {name: number for number, names in enumerate(ORDER) for name in names}


@cache
def parsed(path: Path) -> ast.Module:
    """A source file as a tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def module(path: Path) -> str:
    """The dotted name of a file."""
    return ".".join(("quorem", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module(path): path for path in FILES}


def room(name: str) -> str:
    """The room of a module, or its own name where it lies beside the rooms."""
    return (name.split(".")[1:] or [""])[0]


def imported(path: Path, *, typing: bool = True) -> set[str]:
    """Dotted names of the modules a file imports, anywhere in it; without typing, not what only annotations need."""
    found, nodes = set(), [parsed(path)]
    while nodes:
        node = nodes.pop()
        if not typing and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        nodes += [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr)]
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & MODULES.keys()) or {node.module or ""}
    return found


@cache
def own(path: Path) -> set[str]:
    """quorem's modules that a file imports; the package itself, which imports lazily, is none of them."""
    return imported(path, typing=False) & (MODULES.keys() - {"quorem"})


def test_no_arrow_goes_up():
    up = [
        (name, other) for name, path in MODULES.items() for other in own(path) if FLOOR[room(name)] < FLOOR[room(other)]
    ]
    assert not up


def test_no_files_import_each_other_in_a_circle():
    arrows = {name: own(path) for name, path in MODULES.items()}
    while leaves := {name for name, others in arrows.items() if not others & arrows.keys()}:
        arrows = {name: others for name, others in arrows.items() if name not in leaves}
    while tops := arrows.keys() - {other for others in arrows.values() for other in others}:
        arrows = {name: others for name, others in arrows.items() if name not in tops}
    assert not arrows


@pytest.mark.parametrize("package", ["embeddings", "heads"])
def test_embeddings_and_heads_import_torch_and_each_other_only(package: str):
    allowed = (
        "torch",
        "quorem.embeddings",
        "quorem.heads",
        "math",
        "collections",
        "copy",
        "importlib",
        "typing",
        "warnings",
    )
    for path in (SOURCE / package).glob("*.py"):
        assert not [name for name in imported(path) if not name.startswith(allowed)], path


def test_the_objective_imports_neither_hugging_face_nor_data():
    names = imported(SOURCE / "models" / "electra.py") | imported(SOURCE / "models" / "masking.py")
    assert not [name for name in names if name.startswith(("transformers", "tokenizers", "accelerate", "quorem.data"))]


def test_only_training_imports_accelerate():
    users = {path.parent.name for path in FILES if any(name.startswith("accelerate") for name in imported(path))}
    assert users == {"training"}


def test_only_the_command_line_prints():
    printing = [
        str(path.relative_to(SOURCE))
        for path in FILES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert {name for name in printing if not name.startswith("commands/")} == {"cli.py", "guard.py"}


def test_no_pickle_and_no_file_above_400_lines():
    for path in (*FILES, *(SOURCE.parents[1] / "tests").rglob("*.py")):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert "pickle" not in imported(path), path
        assert "torch.load(" not in text or "weights_only=True" in text, path


def test_no_function_has_more_than_60_lines_of_code():
    for path in FILES:
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef):
                first = node.body[ast.get_docstring(node) is not None :] or node.body
                body = lines[first[0].lineno - 1 : node.end_lineno]
                signature = node.body[0].lineno - node.lineno
                code = [line for line in body if line.strip() and not line.lstrip().startswith("#")]
                assert len(code) + signature <= 60, (path, node.name)


def test_no_module_is_named_after_nothing():
    assert not [path for path in FILES if path.stem in {"utils", "common", "helpers", "misc"}]


def test_traps_that_tests_name_are_in_the_docs():
    root = SOURCE.parents[1]
    listed = set(re.findall(r"^\| (\d+) \|", (root / "docs" / "traps.md").read_text(encoding="utf-8"), re.MULTILINE))
    named = set()
    for path in sorted((root / "tests").rglob("*.py")):
        for phrase in re.findall(r"[Tt]raps? (\d[\d, and]*)", path.read_text(encoding="utf-8")):
            named |= set(re.findall(r"\d+", phrase))
    assert len(named) > 20
    assert not named - listed
