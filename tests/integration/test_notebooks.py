"""The notebooks: stored clean, and each runs from its first cell to its last."""

import re
import sys
from pathlib import Path

import nbformat
import pytest
from ipykernel.kernelspec import write_kernel_spec
from jupyter_client import KernelManager
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
NAMES = [
    "Pretraining",
    "Pretraining_Compositional_Embeddings",
    "FineTuning",
    "FineTuning_Compositional_Embeddings",
    "Recommending",
    "Korean",
    "Similar_Tunes",
]
TINY = {
    "rows": 80,
    "vocab_size": 2000,  # large enough for rows to be shared
    "steps": 3,
    "pretraining_steps": 2,
    "finetuning_epochs": 1,
    "log_every": 1,
    "new_rows": 5,
}
KERNEL = "quorem-test"


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """One kernel for all: what they import takes longer than what they do. It is of this very interpreter: one called
    python3 may be another's, installed for the user or the machine."""
    folder = tmp_path_factory.mktemp("jupyter")
    write_kernel_spec(folder / "kernels" / KERNEL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))
        for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
            patch.setenv(name, str(folder / name.lower()))
        patch.delenv("MPLBACKEND", raising=False)  # Agg would draw figures and not show them
        patch.setenv("OMP_NUM_THREADS", "1")
        manager = KernelManager(kernel_name=KERNEL)
        manager.start_kernel()
        yield manager
        manager.shutdown_kernel(now=True)


def execute(notebook, kernel, folder):
    """Run a notebook in a folder, with nothing of those before; returns its outputs."""
    clean = nbformat.v4.new_code_cell(f"%reset -f\nimport os\nos.chdir({str(folder)!r})\ndel os")
    notebook.cells.insert(0, clean)
    client = NotebookClient(notebook, km=kernel, timeout=300)
    client.execute()
    client.kc.stop_channels()
    return [output for cell in notebook.cells[1:] if cell.cell_type == "code" for output in cell.outputs]


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=nbformat.NO_CONVERT)


def first_code_cell(notebook):
    return next(cell for cell in notebook.cells if cell.cell_type == "code")


def set_parameters(notebook, values):
    """Replace values in the parameters' cell, as papermill would; return the names that are there."""
    cell = first_code_cell(notebook)
    names = re.findall(r"^(\w+) = ", cell.source, flags=re.MULTILINE)
    lines = (f"{name} = {values[name]!r}" for name in names)
    cell.source = "\n".join(lines)
    return names


@pytest.mark.parametrize("name", NAMES)
def test_is_stored_clean_and_valid(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert first_code_cell(notebook).metadata.tags == ["parameters"]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.parametrize("name", NAMES[:4])
def test_runs_and_draws_its_curves(name, kernel, tmp_path):
    notebook = read(name)
    work = tmp_path / "work"
    work.mkdir()
    names = set_parameters(notebook, {**TINY, "folder": str(work)})
    assert "folder" in names
    outputs = execute(notebook, kernel, tmp_path)
    assert [output.output_type for output in outputs if output.output_type == "error"] == []
    shown = [kind for output in outputs for kind in output.get("data", {})]
    assert shown.count("image/png") == (2 if name.startswith("FineTuning") else 1)
    assert "text/markdown" in shown  # the table
    # The folder asked for is the one used, and every run in it was finished.
    assert (work / "reviews.csv").exists()
    assert len(list(work.glob("*/result.json"))) == (3 if name.startswith("FineTuning") else 1)


def test_recommending_goes_from_a_log_to_a_picture(kernel, tmp_path):
    pytest.importorskip("duckdb", reason="needs quorem[events]")
    notebook = read("Recommending")
    work = tmp_path / "work"
    work.mkdir()
    assert "folder" in set_parameters(notebook, {**TINY, "rows": 150, "vocab_size": 100, "folder": str(work)})
    outputs = execute(notebook, kernel, tmp_path)
    shown = [kind for output in outputs for kind in output.get("data", {})]
    assert shown.count("image/png") == 1
    assert "V-SKNN" in next(
        output["data"]["text/markdown"] for output in outputs if "text/markdown" in output.get("data", {})
    )
    assert len(list(work.glob("*/result.json"))) == 2


def run(name, values, kernel, folder):
    """The notebook's outputs, with these parameters instead of its own."""
    notebook = read(name)
    set_parameters(notebook, {**TINY, **values, "folder": str(folder / "work")})
    (folder / "work").mkdir()
    return execute(notebook, kernel, folder)


def texts_of(outputs, kind):
    return [output["data"][kind] for output in outputs if kind in output.get("data", {})]


def test_korean_goes_from_a_tokenizer_to_a_classifier(kernel, tmp_path):
    pytest.importorskip("sentencepiece", reason="needs quorem[unigram]")
    values = {"corpus": "", "text_column": "review", "label_column": "sentiment"}
    outputs = run("Korean", values, kernel, tmp_path)
    tokenizers, predictions = texts_of(outputs, "text/markdown")
    assert [line.split(" | ")[0] for line in tokenizers.splitlines()[2:]] == ["| words", "| unigram", "| characters"]
    assert len(predictions.splitlines()) == 2 + 5
    assert len(texts_of(outputs, "image/png")) == 2
    (seen,) = [text for text in texts_of(outputs, "text/html") if "rgba" in text]
    assert any("가" <= character <= "힣" for character in seen)  # the script is kept
    assert len(list((tmp_path / "work").glob("*/result.json"))) == 2
    # A cell is no terminal, and shows the bar of the training all the same.
    assert "step/s" in "".join(output.text for output in outputs if output.get("name") == "stderr")


def test_tunes_go_from_midi_to_neighbours(kernel, tmp_path):
    pytest.importorskip("symusic", reason="needs quorem[midi]")
    pytest.importorskip("miditok", reason="needs quorem[midi]")
    outputs = run("Similar_Tunes", {"tunes_of_a_kind": 5, "collection": ""}, kernel, tmp_path)
    neighbours, shares = texts_of(outputs, "text/markdown")
    assert "| airs0 | " in neighbours
    assert [line.split(" | ")[0] for line in shares.splitlines()[3:]] == ["| counted events", "| chance"]
    assert len(texts_of(outputs, "image/png")) == 2
    assert len(list((tmp_path / "work" / "tunes").glob("*.mid"))) == 20


def test_a_warning_does_not_stand_on_the_line_of_a_bar(kernel, tmp_path):
    code = """
import logging
from quorem.bars import bar
with bar(total=2, mininterval=0) as progress:
    progress.update()
    logging.getLogger("quorem.pretraining.verdict").warning("few were replaced")
    progress.update()
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    outputs = execute(notebook, kernel, tmp_path)
    written = "".join(output.text for output in outputs if output.get("name") == "stderr")
    warning, shown = [line.split("\r")[-1] for line in written.strip("\n").split("\n")]
    assert warning == "few were replaced"
    assert "2/2" in shown


def test_kernel_is_this_interpreter(kernel, tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import sys; print(sys.executable)")])
    assert execute(notebook, kernel, tmp_path)[0].text.strip() == sys.executable
