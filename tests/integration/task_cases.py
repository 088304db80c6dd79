"""A small separable data set for each task: what every law of TASKS is tried on."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

WORDS = [f"w{number}" for number in range(36)]
BRANCHES = ("classifier.ngrams=2", "classifier.ngram_rows=4096", "classifier.sif=true", "data.truncation=windows")


@dataclass(frozen=True)
class Case:
    """A task's toy.

    Attributes:
        rows: JSON Lines objects, by how many and a seed; with labels.
        settings: beside those that all share.
        score: of result.json, that is to exceed `chance`.
        inputs: keys that a row to predict has; others are labels.
        values: from a row to what `quorem.load(...).predict` takes.
    """

    rows: Callable[[int, random.Random], list[dict]]
    score: str
    chance: float
    inputs: tuple[str, ...] = ("text",)
    settings: tuple[str, ...] = ()
    value: Callable[[dict], object] = field(default=lambda row: row["text"])


def some(chance: random.Random, group: int, number: int = 6) -> list[str]:
    return [chance.choice(WORDS[group * 9 : group * 9 + 9]) for _ in range(number)]


def classified(number, chance):
    return [{"text": " ".join(some(chance, place % 3)), "label": f"c{place % 3}"} for place in range(number)]


def paired(number, chance):
    rows = []
    for place in range(number):
        second = place % 2
        texts = {"text": " ".join(some(chance, 0)), "second": " ".join(some(chance, 1 + second))}
        rows.append(texts | {"label": ["no", "yes"][second]})
    return rows


def several(number, chance):
    rows = []
    for place in range(number):
        labels = [name for bit, name in enumerate(("a", "b", "c")) if place >> bit & 1]
        words = [word for bit in range(3) if place >> bit & 1 for word in some(chance, bit, 3)] or some(chance, 3, 3)
        rows.append({"text": " ".join(words), "label": labels})
    return rows


def numbers(number, chance):
    rows = []
    for place in range(number):
        group = place % 4
        rows.append({"text": " ".join(some(chance, group)), "label": 10.0 * group + chance.random()})
    return rows


def tagged(number, chance):
    """Words of three kinds, some in runs; the second word of a run is known by the first alone."""
    rows = []
    for _ in range(number):
        tokens, tags = [], []
        while len(tokens) < 10:
            kind = chance.randrange(3)
            tokens += some(chance, kind, 1) if kind == 2 else [*some(chance, kind, 1), *some(chance, 3, 1)]
            tags += ["O"] if kind == 2 else [f"B-{'XY'[kind]}", f"I-{'XY'[kind]}"]
        rows.append({"tokens": tokens, "tags": tags})
    return rows


def chosen(number, chance):
    rows = []
    for place in range(number):
        right = place % 3
        wrong = [" ".join(some(chance, 1, 3)) for _ in range(3)]
        texts = {name: " ".join(some(chance, 2, 3)) if i == right else wrong[i] for i, name in enumerate("abc")}
        rows.append({"text": " ".join(some(chance, 0, 3)), **texts, "label": right})
    return rows


def asked(number, chance, *, lacking=False):
    """The answer is what stands of one kind of words in texts of another kind, one to three of them."""
    rows = []
    for place in range(number):
        before, answer, after = (
            some(chance, 1, chance.randrange(12)),
            some(chance, 3, chance.randint(1, 3)),
            some(chance, 2),
        )
        none = lacking and place % 3 == 0
        words = [*before, *([] if none else answer), *after]
        start = sum(len(word) + 1 for word in before)
        answers = {"text": [], "answer_start": []} if none else {"text": [" ".join(answer)], "answer_start": [start]}
        question = " ".join(some(chance, 0, 3))
        rows.append({"id": f"q{place}", "question": question, "context": " ".join(words), "answers": answers})
    return rows


CASES = {
    "classification": Case(classified, "accuracy", 0.6),
    "classification, pairs": Case(
        paired, "accuracy", 0.75, ("text", "second"), ("data.text_pair_column=second",),
        lambda row: (row["text"], row["second"]),
    ),
    "multi_label": Case(several, "micro_f1", 0.8),
    "multi_label, branches": Case(several, "micro_f1", 0.8, settings=BRANCHES),
    "regression": Case(numbers, "pearson", 0.8),
    "regression, branches": Case(numbers, "pearson", 0.8, settings=BRANCHES),
    "multiple_choice": Case(
        chosen, "accuracy", 0.7, ("text", "a", "b", "c"), ("data.choice_columns=a,b,c",),
        lambda row: (row["text"], [row["a"], row["b"], row["c"]]),
    ),
    "tagging": Case(
        tagged, "f1", 0.7, ("tokens",), ("data.stride=4", "train.epochs=25", "data.max_length=9"),
        lambda row: row["tokens"],
    ),
    "question_answering": Case(
        asked, "exact_match", 0.7, ("id", "question", "context"), ("data.max_length=16", "data.doc_stride=4"),
        lambda row: {"question": row["question"], "context": row["context"]},
    ),
    "question_answering, hf": Case(
        asked, "exact_match", 0.7, ("id", "question", "context"),
        ("data.max_length=16", "data.doc_stride=4", "classifier.head=hf", "train.epochs=25"),
        lambda row: {"question": row["question"], "context": row["context"]},
    ),
    "question_answering, some without an answer": Case(
        partial(asked, lacking=True), "exact_match", 0.7, ("id", "question", "context"), (),
        lambda row: {"question": row["question"], "context": row["context"]},
    ),
}  # fmt: skip


def task_of(name: str) -> str:
    return name.partition(",")[0]


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
