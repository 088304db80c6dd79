"""A figure of docs/results.md: held-out quality against bytes, from the results of quality_embeddings.py.

    python benchmarks/figure.py docs/quality.svg "300,000 Korean words=a.json,b.json" "43,000 items=c.json"

One panel for each title, one point an arm: mean over the seeds, with a bar from the lowest to the highest.
"""

import argparse
import json
import statistics
from pathlib import Path

import matplotlib.pyplot as plt

BYTES = 4  # of a float32


def main() -> None:
    """Draw the panels side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", type=Path)
    parser.add_argument("panels", nargs="+", metavar="TITLE=FILE,FILE")
    parser.add_argument("--score", default="nll", help="a key of held_out")
    options = parser.parse_args()
    figure, axes = plt.subplots(1, len(options.panels), figsize=(5.5 * len(options.panels), 4), layout="constrained")
    for panel, place in zip(options.panels, axes if len(options.panels) > 1 else [axes], strict=True):
        title, _, files = panel.rpartition("=")
        for file in files.split(","):
            for name, arm in json.loads(Path(file).read_text())["arms"].items():
                seeds = list(arm["seeds"].values())
                megabytes = (seeds[0]["table_parameters"] + seeds[0]["head_parameters"]) * BYTES / 1e6
                scores = [each["held_out"][options.score] for each in seeds]
                mean = statistics.mean(scores)
                spread = [[mean - min(scores)], [max(scores) - mean]]
                place.errorbar(megabytes, mean, yerr=spread, fmt="o", capsize=3, color="C0" if "qr" in name else "C7")
                mine = "qr" in name  # named to the left, the others to the right
                above = place.texts and abs(place.texts[-1].xy[1] - mean) < 0.05
                place.annotate(
                    name, (megabytes, mean), xytext=(-6 if mine else 6, 5 if above else -4),
                    textcoords="offset points", fontsize=7, ha="right" if mine else "left",
                )  # fmt: skip
        place.margins(x=0.45)
        place.set(title=title, xscale="log", xlabel="token table and softmax, MB of weights")
    figure.supylabel("held-out loss of the generator, nats (lower is better)", fontsize="medium")
    figure.savefig(options.figure, metadata={"Date": None})


if __name__ == "__main__":
    main()
