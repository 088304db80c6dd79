"""What the how-to guides show runs: commands with tiny networks and few steps, Python as it stands."""

import csv
import re
import shlex
import shutil
from pathlib import Path

import pytest
from small_networks import SMALL_NETWORKS
from transformers import BertTokenizerFast, ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining
from tunes import write_tunes

from quorem.exporting import onnx
from quorem.samples import write_reviews

FOLDER = Path(__file__).parents[2] / "docs" / "howto"
BLOCK = re.compile(r"```(sh|python)\n(.*?)```", re.DOTALL)
NOT_RUN = "not run by the tests"
TINY = [
    *SMALL_NETWORKS,
    "model.discriminator.num_hidden_layers=1",
    "data.max_length=24",
    "train.batch_size=8",
    "train.precision=fp32",
]
FEWER = {f"train.max_steps={many}": f"train.max_steps={few}" for many, few in ((1000, 2), (2000, 3), (4000, 5))} | {
    "10x": "2x"
}


def blocks(page):
    """The kind and text of each block that is run, in order: what the paragraph before does not except."""
    text, found, end = (FOLDER / f"{page}.md").read_text(encoding="utf-8"), [], 0
    for block in BLOCK.finditer(text):
        if NOT_RUN not in text[end : block.start()].lower():
            found.append((block[1], block[2]))
        end = block.end()
    return found


def smaller(words):
    """A command as it is written, with few steps of tiny networks."""
    words = [FEWER.get(word, word) for word in words]
    if "--minutes" in words:
        place = words.index("--minutes")
        words[place : place + 2] = ["train.max_steps=3"]
    if words[0] == "finetune":
        return [*words, "train.max_steps=2", "data.max_length=24", "train.precision=fp32"]
    if words[0] != "pretrain":
        return words
    sizes = [each for each in TINY if not each.startswith("model.")] if "--init-from" in words else TINY
    return [*words, *sizes, *([] if "train.max_steps" in " ".join(words) else ["train.max_steps=2"])]


def write_rows(path, texts):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "label"])
        writer.writerows((texts[number % 2] * (1 + number % 3), number % 2) for number in range(40))


def write_electra(folder, texts):
    """Both networks as transformers save them, very small."""
    words = sorted({word for text in texts for word in text.split()})
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"))
    sizes = {"vocab_size": len(words) + 5, "embedding_size": 8, "hidden_size": 8, "intermediate_size": 8}
    config = ElectraConfig(**sizes, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=64)
    for name, kind in (("discriminator", ElectraForPreTraining), ("generator", ElectraForMaskedLM)):
        kind(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


def write_texts(path):
    path.write_text("".join(f'{{"text": "the film number {number} was long"}}\n' for number in range(40)))


def provide(page, pretrained, classifier):
    """What a guide takes as there."""
    write_reviews(Path("reviews.csv"), rows=60)
    write_reviews(Path("more.csv"), rows=40, seed=1)
    if page == "no-spaces":
        pytest.importorskip("sentencepiece")
        write_rows(Path("reviews-ja.csv"), ["この映画はとても面白かった。", "話が長くて退屈だった。"])
        write_rows(Path("reviews-th.csv"), ["หนังเรื่องนี้สนุกมาก", "เรื่องยาวและน่าเบื่อ"])
    elif page == "midi-kinds":
        pytest.importorskip("miditok")
        write_tunes(Path("kinds"))
    elif page == "electra-checkpoint":
        write_electra(Path("electra"), Path("reviews.csv").read_text(encoding="utf-8").replace(",", " ").splitlines())
    elif page == "export":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
        shutil.copytree(classifier, "runs/sentiment")
    elif page == "similar":
        shutil.copytree(pretrained, "runs/reviews")
    elif page == "tagging":
        pytest.importorskip("seqeval")
        Path("texts.txt").write_text("Anna lives in Rome\nPeter lives in Oslo\n" * 20)
        pytest.importorskip("miditok")
        write_tunes(Path("tunes"))
        Path("people.conll").write_text("Anna B-PER\nlives O\nin O\nRome B-LOC\n\n" * 20)
    elif page == "cluster":
        write_texts(Path("sample.jsonl"))


RESULTS = {
    "own-tokenizer": ["runs/mine/discriminator"],
    "no-spaces": ["runs/ja/discriminator", "runs/th/discriminator", "predictions.csv"],
    "midi-kinds": ["runs/kinds/result.json", "predictions.csv"],
    "tagging": ["runs/people/result.json", "tagged.conll", "loudness.jsonl"],
    "similar": ["vectors.npy"],
    "electra-checkpoint": ["runs/electra/discriminator", "runs/electra-sentiment/model"],
    "resume": ["runs/base/discriminator", "runs/more/discriminator"],
    "compress": ["runs/small/model", "predictions.csv", "runs/small-reviews/generator", "runs/again/model"],
    "export": ["exports/onnx/model.onnx", "exports/int8/model.onnx", "exports/code"],
    "several-gpus": ["prepared/shards"],
    "cluster": ["prepared/shards", "runs/large/discriminator"],
}
"""Of each guide, what must be there in the end."""


def trace_once(monkeypatch):
    """Tracing takes seconds, and the guide to exports writes one model as ONNX twice."""
    trace, traced = onnx.trace, []
    monkeypatch.setattr(onnx, "trace", lambda *of: traced[0] if traced else traced.append(trace(*of)) or traced[0])


def test_every_guide_is_run():
    assert sorted(RESULTS) == sorted(path.stem for path in FOLDER.glob("*.md"))


@pytest.mark.parametrize("page", RESULTS)
def test_the_guide_runs(page, tmp_path, monkeypatch, quorem, pretrained, classifier):
    monkeypatch.chdir(tmp_path)
    provide(page, pretrained, classifier)
    if page == "export":
        trace_once(monkeypatch)
    names: dict[str, object] = {}
    for kind, text in blocks(page):
        if kind == "python":
            exec(compile(text, page, "exec"), names)
            continue
        for line in text.splitlines():
            words = shlex.split(line, comments=True)[1:]
            if words[:1] == ["merge"]:  # of parts that the scripts above it have made
                write_texts(Path("part.jsonl"))
                for part in ("parts/1", "parts/2"):
                    quorem("prepare", "part.jsonl", "--out", part, "tokenizer.path=tokenizer-run/tokenizer")
                words[1:2] = ["parts/1", "parts/2"]
            outcome = quorem(*smaller(words))
            assert outcome.code == 0, (line, outcome.err)
    assert [name for name in RESULTS[page] if not Path(name).exists()] == []
    if page == "export":
        assert set(names["labels"]) <= {"negative", "positive"}
    if page == "similar":
        assert len(names["nearest"]) == 5
