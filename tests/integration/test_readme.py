"""What README and tutorial show runs: from Python as it stands, on the command line with fewer rows and steps."""

import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import pytest
from tunes import write_tunes

from quorem.samples import write_reviews

ROOT = Path(__file__).parents[2]
NEXT = "runs/next"  # of a command further up


@pytest.mark.parametrize(("page", "number"), [("README.md", 1), ("docs/tutorial.md", 2)])
def test_the_first_blocks_run(page, number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_reviews(tmp_path / "reviews.csv", rows=80)
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text[text.index("## From Python") :], re.DOTALL)[:number]
    assert len(blocks) == number
    names: dict[str, object] = {}
    for block in blocks:
        code = "\n".join(line for line in block.split("\n") if NEXT not in line)
        exec(compile(code, page, "exec"), names)
    assert names["classifier"].labels


FEWER = {"--seeds": "2", "--rows": "300", "--minutes": "0.01", "--vocab-size": "200"}
STEPS = re.compile(r"train\.(max_steps=[1-9]\d*|epochs=.*)")
TINY = ["model.size=tiny", "model.discriminator.num_hidden_layers=1", "data.max_length=32", "train.batch_size=8"]


def commands(kind):
    """The quorem commands for a kind of data, word by word."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"```sh\n(.*?)```", text[text.index("## On your own data") :], re.DOTALL)
    (part,) = (part for part in block[1].split("\n\n") if part.startswith(f"# {kind}:"))
    return [shlex.split(line, comments=True)[1:] for line in part.splitlines() if line.startswith("quorem ")]


def test_the_first_page_of_the_docs_shows_the_commands_that_run_here():
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8").replace("\\\n", "")
    lines = [
        line for line in re.search(r"```sh\n(.*?)```", text, re.DOTALL)[1].splitlines() if line.startswith("quorem ")
    ]
    assert [shlex.split(line, comments=True)[1:] for line in lines] == commands("Text")


@pytest.mark.parametrize(("kind", "number"), [("Text", 4), ("A shop", 4), ("MIDI", 3)])
def test_the_commands_run(kind, number, tmp_path, monkeypatch, quorem):
    monkeypatch.chdir(tmp_path)
    if kind == "MIDI":
        pytest.importorskip("miditok")
        write_tunes(tmp_path / "kinds")
        shutil.copytree(tmp_path / "kinds", tmp_path / "tunes")
    found = commands(kind)
    assert len(found) == number
    for words in found:
        small = [FEWER.get(before, word) for before, word in zip([None, *words], words, strict=False)]
        small = [word for word in small if not STEPS.fullmatch(word)]
        steps = [] if {"--minutes", "train.max_steps=0"} & set(words) else ["train.max_steps=3"]
        small += {"pretrain": [*TINY, *steps], "finetune": ["train.max_steps=3"]}.get(words[0], [])
        outcome = quorem(*small)
        assert outcome.code == 0, (words, outcome.err)
        assert (tmp_path / words[words.index("--out") + 1]).exists()


def test_the_demo_prints_its_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    place = ROOT / "examples" / "demo.py"
    spec = importlib.util.spec_from_file_location("demo", place)
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    sizes = {"LABELS": 40, "JUDGED": 20, "SEEDS": (0, 1), "STEPS": 3, "PRETRAIN": " ".join([demo.PRETRAIN, *TINY])}
    for name, value in {**sizes, "FINETUNE": f"{demo.FINETUNE} train.max_steps=3"}.items():
        monkeypatch.setattr(demo, name, value)
    run = demo.main
    monkeypatch.setattr(demo, "main", lambda words: run(["300" if word == "20000" else word for word in words]))
    demo.demonstrate()
    shown = capsys.readouterr().out
    heads = ["accuracy on 20 reviews, 40 labels", *demo.ARMS]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for head in [*heads[1:], "TF-IDF of words, logistic regression", "TF-IDF of words and word pairs"]:
        assert re.search(rf"^{head} +0\.\d{{4}}", shown, re.MULTILINE)
        assert re.search(rf"^{head} +0\.\d{{4}}", readme, re.MULTILINE)  # README shows these lines
    assert heads[0] in shown
    assert "s of processor time" in shown
