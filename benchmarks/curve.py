"""The figure of quality against compression, from results of learning.py on the same rows.

    python benchmarks/curve.py docs/budget.svg benchmarks/results/2026-12-01-kinds.json --kinds pq "qr own" qr low_rank

Arms are named KIND RATIOx ("qr 10x"), and dense; a line for each kind, one point a ratio: the mean over seeds, with a
bar from the lowest to the highest. A line begins at the dense arm of its own file. What counting reaches on the same
rows is drawn across.
"""

import argparse
import json
import re
import statistics
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

ARM = re.compile(r"(?P<kind>.+) (?P<ratio>[\d.]+)x")
NAMES = {
    "qr own": "qr and a few numbers of each token",
    "pq": "pq (product quantization)",
    "pq after": "pq, after training",
    "qr": "qr (quotient, remainder)",
    "low_rank": "low rank",
}


def main() -> None:
    """Draw the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", type=Path)
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--kinds", nargs="+", help="which lines; all if not given")
    options = parser.parse_args()
    plt.rcParams["font.size"] = 12  # to be read in a page that is 560 pixels wide
    figure, axes = plt.subplots(figsize=(6.5, 4), layout="constrained")
    ticks = {1.0}
    for path in options.results:
        results = json.loads(path.read_text(encoding="utf-8"))
        lines: dict[str, list[tuple[float, list[float]]]] = {}
        for name, arm in results["arms"].items():
            scores = [seed["nll"] for seed in arm["seeds"].values() if "nll" in seed]
            found = ARM.fullmatch(name)
            if found and scores:
                lines.setdefault(re.sub(r"own\d+", "own", found["kind"]), []).append((float(found["ratio"]), scores))
        dense = [seed["nll"] for seed in results["arms"]["dense"]["seeds"].values()]
        for kind in options.kinds or sorted(lines):
            points = lines[kind]
            _draw(axes, NAMES.get(kind, kind), [(1.0, dense), *sorted(points)])
            ticks |= {ratio for ratio, _ in points}
    counting = results["counting"]["nll"]["cooccurrence"]
    axes.axhline(counting, color="gray", linestyle="--", linewidth=1)
    axes.annotate("counting what stands together", (5, counting), xytext=(0, -13), textcoords="offset points")
    axes.set(
        xscale="log", xlabel="times smaller than a row for each item", ylabel="held-out loss of the generator, nats"
    )
    axes.set_xticks(sorted(ticks), [f"{tick:g}" for tick in sorted(ticks)], minor=False)
    axes.minorticks_off()
    axes.margins(y=0.08)
    axes.legend(frameon=False)
    figure.savefig(options.figure, metadata={"Date": None})


def _draw(axes: Any, name: str, points: list[tuple[float, list[float]]]) -> None:
    means = [statistics.mean(scores) for _, scores in points]
    below = [mean - min(scores) for mean, (_, scores) in zip(means, points, strict=True)]
    above = [max(scores) - mean for mean, (_, scores) in zip(means, points, strict=True)]
    axes.errorbar([ratio for ratio, _ in points], means, yerr=[below, above], marker="o", capsize=3, label=name)


if __name__ == "__main__":
    main()
