"""The figure of the README: held-out quality against bytes, from the results of quality_embeddings.py.

python benchmarks/figure.py benchmarks/results/FILE.json docs/quality.svg
"""

import argparse
import json
import statistics
from pathlib import Path

import matplotlib.pyplot as plt

BYTES = 4  # of a float32


def main() -> None:
    """Draw one point an arm: mean over the seeds, with bars from the lowest to the highest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("figure", type=Path)
    parser.add_argument("--score", default="nll_known", help="a key of held_out")
    options = parser.parse_args()
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for name, arm in json.loads(options.results.read_text())["arms"].items():
        seeds = list(arm["seeds"].values())
        megabytes = (seeds[0]["table_parameters"] + seeds[0]["head_parameters"]) * BYTES / 1e6
        scores = [each["held_out"][options.score] for each in seeds]
        mean = statistics.mean(scores)
        spread = [[mean - min(scores)], [max(scores) - mean]]
        axes.errorbar(megabytes, mean, yerr=spread, fmt="o", capsize=3, color="C0" if "qr" in name else "C7")
        axes.annotate(name, (megabytes, mean), xytext=(6, 2), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel("token table and softmax, MB of float32 weights")
    axes.set_ylabel("held-out loss of known words, nats (lower is better)")
    figure.savefig(options.figure, metadata={"Date": None})


if __name__ == "__main__":
    main()
