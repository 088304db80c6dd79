"""Which classes are confused: the whole table for few classes, otherwise the most frequent pairs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MOST_CLASSES = 30  # of which every pair is counted
LARGEST = 30  # pairs that are kept of more classes


def judge(labels: Sequence[int], predictions: np.ndarray, num_classes: int) -> dict[str, Any]:
    """Accuracy, F1, and what was taken for what.

    Args:
        labels: int (n,), the true classes.
        predictions: int (n,), the predicted ones.
        num_classes: all of them.

    Returns:
        `accuracy`; `f1`, of class 1 where there are two classes and otherwise equal to `macro_f1`; `macro_f1`, the mean
        over the classes that occur as truth or prediction, 0 for one never predicted rightly; `confusion`, rows of
        counts by true class, or of more than MOST_CLASSES classes `confusions`, the LARGEST [true class, predicted
        class, count] of mistakes.
    """
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

    truth = np.asarray(labels, np.int64)
    macro = float(f1_score(truth, predictions, average="macro", zero_division=0))
    f1 = float(f1_score(truth, predictions, zero_division=0)) if num_classes == 2 else macro
    found = {"accuracy": float(accuracy_score(truth, predictions)), "f1": f1, "macro_f1": macro}
    if num_classes <= MOST_CLASSES:
        return found | {"confusion": confusion_matrix(truth, predictions, labels=range(num_classes)).tolist()}
    wrong = truth != predictions
    pairs, counts = np.unique(np.stack([truth[wrong], predictions[wrong]], axis=-1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:LARGEST]
    return found | {"confusions": [[*map(int, pairs[place]), int(counts[place])] for place in order]}


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
