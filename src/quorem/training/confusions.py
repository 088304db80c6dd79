"""Which classes are confused: the whole table for few classes, otherwise the most frequent pairs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from quorem.training.metrics import classification_scores, confusion_matrix

MOST_CLASSES = 30  # of which every pair is counted
LARGEST = 30  # pairs that are kept of more classes


def judge(labels: Sequence[int], predictions: np.ndarray, num_classes: int) -> dict[str, Any]:
    """Accuracy, F1, and what was taken for what.

    Args:
        labels: int (n,), the true classes.
        predictions: int (n,), the predicted ones.
        num_classes: all of them.

    Returns:
        `accuracy`, `f1` and `macro_f1` (see `classification_scores`); `confusion`, rows of counts by true class, or of
        more than MOST_CLASSES classes `confusions`, the LARGEST [true class, predicted class, count] of mistakes.
    """
    truth = np.asarray(labels, np.int64)
    there, numbers = np.unique(np.concatenate([truth, predictions]), return_inverse=True)
    if num_classes <= MOST_CLASSES:
        confusion = confusion_matrix(truth, predictions, num_classes)
        return {**classification_scores(confusion), "confusion": confusion.tolist()}
    hits = np.bincount(numbers[: len(truth)][truth == predictions], minlength=len(there))
    macro_f1 = float((2 * hits / np.bincount(numbers, minlength=len(there))).mean())
    wrong = truth != predictions
    pairs, counts = np.unique(np.stack([truth[wrong], predictions[wrong]], axis=-1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:LARGEST]
    return {
        "accuracy": float(np.mean(~wrong)),
        "f1": macro_f1,
        "macro_f1": macro_f1,
        "confusions": [[*map(int, pairs[place]), int(counts[place])] for place in order],
    }


def table(result: Mapping[str, Any]) -> str:
    """What a result says of its confusions, in lines."""
    names = result["labels"]
    if "confusion" not in result:
        found = [(names[true], names[predicted], count) for true, predicted, count in result["confusions"]]
        lines = [f"{count:>10,}  {_short(true)} taken for {_short(predicted)}" for true, predicted, count in found]
        title = f"of {len(names):,} classes, the mistakes made most often:" if lines else "no mistakes"
        return "\n".join([title, *lines])
    cells = [*names, *(str(count) for row in result["confusion"] for count in row)]
    width = max(len(cell) for cell in cells) + 2
    lines = ["confusion (rows: truth)".ljust(26) + "".join(name.rjust(width) for name in names)]
    for name, row in zip(names, result["confusion"], strict=True):
        lines.append(name.rjust(26) + "".join(str(count).rjust(width) for count in row))
    return "\n".join(lines)


def _short(name: str) -> str:
    return repr(name if len(name) <= 60 else f"{name[:60]}...")
