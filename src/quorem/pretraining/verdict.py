"""Whether a pre-training run learns anything: warnings during the run, a verdict at its end."""

import logging
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from quorem.config.shape import is_number

logger = logging.getLogger(__name__)

LEARNED = 0.005  # nats below the base rate's entropy that count as more than nothing
CLEARLY = 0.02  # nats below it that count as more than little
FEW_REPLACED = 0.05  # share of all tokens; with fewer the generator is too good
VERDICT_STEPS = 20  # that a verdict is about, at least: the loss of one step is too noisy
NO_STEP = "no step was taken (train.max_steps=0): the networks are as they started"
RISEN = {"mlm_loss": 1.0, "rtd_loss": 0.5}  # nats above the lowest mean so far that are no noise
MET = ("mlm_loss", "unigram_entropy", "rtd_loss", "base_rate_entropy", "share_replaced")


def recent(records: Sequence[dict[str, Any]], keys: Sequence[str] = MET) -> tuple[dict[str, float], int]:
    """Means over the last VERDICT_STEPS steps or a few more, and their number. Empty if no step was used.

    Args:
        records: the lines of metrics.jsonl, each with means since the one before, or without where its steps were
            skipped.
        keys: of what; those that some of these records lack, or that are no numbers there, are left out.
    """
    ends = [0, *(record["step"] for record in records)]
    steps, last = list[int](), list[dict[str, Any]]()
    for (start, end), record in zip(reversed(list(pairwise(ends))), reversed(records), strict=True):
        if sum(steps) < VERDICT_STEPS and "mlm_loss" in record:
            steps.append(end - start)
            last.append(record)
    means = {
        key: sum(n * record[key] for n, record in zip(steps, last, strict=True)) / sum(steps)
        for key in keys
        if sum(steps) > 0 and all(is_number(record.get(key)) for record in last)
    }
    return means, sum(steps)


def verdict(records: Sequence[dict[str, Any]]) -> str:
    """Say plainly whether the networks learned more than frequencies.

    Args:
        records: as in `recent`.
    """
    found, steps = recent(records)
    if not found:
        return "no step changed the weights, because no loss was finite"
    if any(key not in found for key in MET[:4]):
        return "metrics.jsonl is damaged where the last steps are: nothing can be said of them"
    mlm, unigram, rtd, base_rate = (found[key] for key in MET[:4])
    generator = "more than" if unigram - mlm >= 0.05 else "nothing beyond"
    below = base_rate - rtd
    discriminator = "more than" if below >= CLEARLY else "little more than" if below >= LEARNED else "nothing beyond"
    return (
        f"the generator has learned {generator} word frequencies: mlm loss {mlm:.3f}, unigram entropy {unigram:.3f}; "
        f"the discriminator has learned {discriminator} the base rate: rtd loss {rtd:.3f}, its entropy {base_rate:.3f} "
        f"(means of the last {steps} steps)"
    )


def warnings(records: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Warnings about the last steps by kind; each says what to change.

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
            f"{when} {'every' if share else 'no'} token was replaced, so the discriminator learns nothing: check the "
            "data, and that objective.mask_rate is between 0 and 1"
        )
    elif share < FEW_REPLACED:
        found["few replaced"] = (
            f"{when} only {100 * share:.1f} % of tokens were replaced, so the discriminator learns little: use a "
            "smaller generator (model.generator.hidden_size) or a higher objective.mask_rate"
        )
    elif base_rate - rtd < LEARNED:
        found["base rate"] = (
            f"{when} the discriminator learned only the base rate (rtd loss {rtd:.3f}, its entropy {base_rate:.3f}): "
            "train longer (train.max_steps, train.epochs) or with another train.learning_rate before using it"
        )
    return found


class Watch:
    """Logs warnings during a run: each kind once, after warm-up, and all of them at the end.

    Args:
        total_steps: steps of the run. Warnings about the base rate start at half of them.
        warmup_steps: no warning comes before their end.
        records: records of a resumed run.
    """

    def __init__(self, total_steps: int, warmup_steps: int, records: Sequence[dict[str, Any]] = ()) -> None:
        self.total_steps, self.warmup_steps = total_steps, warmup_steps
        self._records = list(records)
        self._warned: set[str] = set()
        self._lowest: dict[str, float] = {}

    def look(self, record: dict[str, Any]) -> None:
        """Look at a new line of metrics.jsonl."""
        step = record["step"]
        earlier = [each for each in self._records if each["step"] < step]  # later ones come from before the resume
        before = [each for each in earlier if each["step"] >= step - 2 * VERDICT_STEPS]
        self._records = [*(before or earlier[-1:]), record]
        if step == self.total_steps:
            self._warned.clear()
        elif step < max(self.warmup_steps, VERDICT_STEPS):
            return
        for kind, text in (warnings(self._records) | self._divergence()).items():
            if kind in self._warned or (kind == "base rate" and 2 * step < self.total_steps):
                continue
            self._warned.add(kind)
            logger.warning("%s", text)

    def _divergence(self) -> dict[str, str]:
        """A warning if a loss has risen far above its lowest mean."""
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
