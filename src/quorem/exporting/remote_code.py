"""Folders that bring their code along: transformers loads them with trust_remote_code=True, without quorem.

The code is quorem's own, file by file: what the models import of it, and what that imports. transformers wants all
files in one folder, so that quorem.embeddings.base becomes embeddings_base.py, a package the file of its name, and an
import a relative one. Nothing else in a file changes. config.json names one file, which imports all others itself: all
classes then come from one copy of them, and a loader need not follow imports of imports.
"""

import ast
import re
from pathlib import Path

from quorem.errors import UserError
from quorem.exporting.networks import read_network
from quorem.tokenization.files import save_tokenizer

SOURCE = Path(__file__).parents[1]  # of quorem
ENTRY = "modeling_quorem"
CONFIG = ("quorem.models.configuration", "QuoremConfig")
CLASSES = {
    "AutoModel": ("quorem.models.modeling", "QuoremModel"),
    "AutoModelForPreTraining": ("quorem.models.modeling", "QuoremForPreTraining"),
    "AutoModelForMaskedLM": ("quorem.models.modeling", "QuoremForMaskedLM"),
    "AutoModelForSequenceClassification": ("quorem.models.classifier", "QuoremForSequenceClassification"),
    "AutoModelForCausalLM": ("quorem.models.next_item", "QuoremForNextItem"),
    "AutoModelForTokenClassification": ("quorem.models.token_classifier", "QuoremForTokenClassification"),
    "AutoModelForMultipleChoice": ("quorem.models.multiple_choice", "QuoremForMultipleChoice"),
    "AutoModelForQuestionAnswering": ("quorem.models.question_answering", "QuoremForQuestionAnswering"),
}
OF_ALL = ("AutoModel", "AutoModelForSequenceClassification")  # the latter with a new head where there is none
OWN = {
    "discriminator": ("AutoModelForPreTraining",),
    "generator": ("AutoModelForMaskedLM",),
    "classifier": (),
    "next_item": ("AutoModelForCausalLM",),
    "token_classifier": ("AutoModelForTokenClassification",),
    "multiple_choice": ("AutoModelForMultipleChoice",),
    "question_answering": ("AutoModelForQuestionAnswering",),
}
"""Auto classes that load a folder, by what it holds."""
IMPORT = re.compile(r"^(\s*)from (quorem(?:\.\w+)+) import ", re.MULTILINE)


def export_remote_code(run: Path, folder: Path) -> list[str]:
    """Fill a folder with a network, its tokenizer and the code of both.

    Args:
        run: a run (its discriminator or fine-tuned model), or a model folder.
        folder: exists and is empty.

    Returns:
        What was written, a line each.

    Raises:
        UserError: if there is no model, or a damaged one.
    """
    network = read_network(run)
    names = (*OF_ALL, *OWN[network.kind])
    files = code_files(names)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    network.config.auto_map = auto_map(names)
    network.model.save_pretrained(folder)
    save_tokenizer(network.tokenizer, folder)
    size = (folder / "model.safetensors").stat().st_size / 1e6
    return [f"{network.kind}: {', '.join(names)}; {size:,.3f} MB, and {len(files)} files of code"]


def auto_map(names: tuple[str, ...]) -> dict[str, str]:
    """What config.json says of the classes that load it."""
    return {"AutoConfig": f"{ENTRY}.{CONFIG[1]}"} | {name: f"{ENTRY}.{CLASSES[name][1]}" for name in names}


def code_files(names: tuple[str, ...]) -> dict[str, str]:
    """The text of every file of code by its name without .py, for these Auto classes."""
    needed = [CONFIG, *(CLASSES[name] for name in names)]
    modules = closure([module for module, _ in needed])
    found = {flat(module): rewritten(module) for module in modules}
    assert len(found) == len(modules), "two modules have one name"
    lines = ['"""What config.json names, and all files that this needs."""', ""]
    lines += [f"from .{flat(module)} import __doc__ as _{flat(module)}  # noqa: F401" for module in modules]
    lines += ["", *(f"from .{flat(module)} import {name}" for module, name in needed), ""]
    lines += [f"__all__ = {[name for _, name in needed]!r}", ""]
    return {**found, ENTRY: "\n".join(lines)}


def closure(modules: list[str]) -> list[str]:
    """The dotted names of modules and of all that they import of quorem, sorted."""
    found, left = set[str](), list(modules)
    while left:
        if (module := left.pop()) not in found:
            found.add(module)
            left += [other for _, other in IMPORT.findall(text_of(module))]
    return sorted(found)


def flat(module: str) -> str:
    """The name of a module's file: quorem.embeddings.base gives embeddings_base."""
    return module.removeprefix("quorem.").replace(".", "_")


def rewritten(module: str) -> str:
    """A module's text with relative imports of files beside it."""
    text = IMPORT.sub(lambda found: f"{found[1]}from .{flat(found[2])} import ", text_of(module))
    for node in ast.walk(ast.parse(text)):  # whatever the pattern has not met would fail only where quorem lacks
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "quorem" for alias in node.names):
            raise UserError(f"{module}: imports quorem as a whole: from quorem.x import y is needed")
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == "quorem":
            raise UserError(f"{module}: from {node.module} import is not rewritten: write it on a line of its own")
    return text


def text_of(module: str) -> str:
    """The source of one of quorem's modules."""
    path = SOURCE.joinpath(*module.split(".")[1:])
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")
