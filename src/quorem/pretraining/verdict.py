"""Whether a pre-training run learns anything: said at its end, and doubted on the way."""

import logging
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

logger = logging.getLogger(__name__)

LEARNED = 0.005  # nats below the base rate's entropy that count as more than nothing
FEW_REPLACED = 0.05  # of all tokens; a generator that is right more often is too good
VERDICT_STEPS = 20  # that a verdict is about, at least: the loss of one step is too noisy
RISEN = {"mlm_loss": 1.0, "rtd_loss": 0.5}  # nats above the lowest mean so far that are no noise
MET = ("mlm_loss", "unigram_entropy", "rtd_loss", "base_rate_entropy", "share_replaced")


def recent(records: Sequence[dict[str, Any]]) -> tuple[dict[str, float], int]:
    """Means over the last VERDICT_STEPS steps, or a few more; and how many. Nothing, if no step could be used.

    Args:
        records: the lines of metrics.jsonl, each with means since the one before, or without where its steps were
            skipped.
    """
    ends = [0, *(record["step"] for record in records)]
    steps, last = list[int](), list[dict[str, Any]]()
    for (start, end), record in zip(reversed(list(pairwise(ends))), reversed(records), strict=True):
        if sum(steps) < VERDICT_STEPS and "mlm_loss" in record:
            steps.append(end - start)
            last.append(record)
    means = {
        key: sum(n * record[key] for n, record in zip(steps, last, strict=True)) / sum(steps)
        for key in MET
        if last and all(record.get(key) is not None for record in last)
    }
    return means, sum(steps)


def verdict(records: Sequence[dict[str, Any]]) -> str:
    """Say plainly whether the networks learned more than frequencies.

    Args:
        records: as in `recent`.
    """
    found, steps = recent(records)
    if not found:
        return "no step could be used, for no loss was finite"
    mlm, unigram, rtd, base_rate = (found[key] for key in MET[:4])
    generator = "more than" if unigram - mlm >= 0.05 else "nothing beyond"
    discriminator = "more than" if base_rate - rtd >= LEARNED else "nothing beyond"
    return (
        f"the generator has learned {generator} word frequencies: mlm loss {mlm:.3f}, unigram entropy {unigram:.3f}; "
        f"the discriminator has learned {discriminator} the base rate: rtd loss {rtd:.3f}, its entropy {base_rate:.3f} "
        f"(means of the last {steps} steps)"
    )


def warnings(records: Sequence[dict[str, Any]]) -> dict[str, str]:
    """What is wrong with the last steps, by kind, in words that say what to change.

    Args:
        records: as in `recent`.
    """
    means, steps = recent(records)
    if not means:
        return {}
    share, rtd, base_rate = (means.get(key, 0.0) for key in ("share_replaced", "rtd_loss", "base_rate_entropy"))
    when, found = f"in the last {steps} steps", dict[str, str]()
    if share in (0.0, 1.0):
        found["one class"] = (
            f"{when} {'every' if share else 'no'} token was replaced, so that the discriminator has nothing to tell "
            "apart: see what the data is, and that objective.mask_rate is between 0 and 1"
        )
    elif share < FEW_REPLACED:
        found["few replaced"] = (
            f"{when} only {100 * share:.1f} % of tokens were replaced, so that the discriminator has little to learn "
            "from: a smaller generator (model.generator.hidden_size) or a higher objective.mask_rate leaves it more"
        )
    elif base_rate - rtd < LEARNED:
        found["base rate"] = (
            f"{when} the discriminator was at the base rate (rtd loss {rtd:.3f}, its entropy {base_rate:.3f}), no "
            "better than not looking: train longer (train.max_steps, train.epochs) or with another "
            "train.learning_rate before using it"
        )
    return found


class Watch:
    """Logs warnings during a run: each kind once, when it has had time; and at the end all there are.

    Args:
        total_steps: of the run. The base rate is no cause for warning before half of them.
        warmup_steps: before their end nothing is.
        records: of a run that goes on, those it has.
    """

    def __init__(self, total_steps: int, warmup_steps: int, records: Sequence[dict[str, Any]] = ()) -> None:
        self.total_steps, self.warmup_steps = total_steps, warmup_steps
        self._records = list(records)
        self._told: set[str] = set()
        self._lowest: dict[str, float] = {}

    def look(self, record: dict[str, Any]) -> None:
        """Take note of a line of metrics.jsonl."""
        step = record["step"]
        earlier = [each for each in self._records if each["step"] < step]  # later ones are of before it was resumed
        before = [each for each in earlier if each["step"] >= step - 2 * VERDICT_STEPS]
        self._records = [*(before or earlier[-1:]), record]
        if step == self.total_steps:
            self._told.clear()
        elif step < max(self.warmup_steps, VERDICT_STEPS):
            return
        for kind, text in (warnings(self._records) | self._divergence()).items():
            if kind in self._told or (kind == "base rate" and 2 * step < self.total_steps):
                continue
            self._told.add(kind)
            logger.warning("%s", text)

    def _divergence(self) -> dict[str, str]:
        """Whether a loss has risen far above what it was."""
        means, steps = recent(self._records)
        if steps < VERDICT_STEPS:
            return {}
        risen = [key for key, by in RISEN.items() if means.get(key, 0.0) > self._lowest.get(key, float("inf")) + by]
        for key in RISEN.keys() & means.keys():
            self._lowest[key] = min(means[key], self._lowest.get(key, float("inf")))
        if not risen:
            return {}
        rises = " and ".join(f"{key} rose from {self._lowest[key]:.2f} to {means[key]:.2f}" for key in risen)
        return {
            "diverged": f"training has diverged: {rises}: lower train.learning_rate and train.matrix_learning_rate, or "
            "raise train.warmup, with another --out"
        }
