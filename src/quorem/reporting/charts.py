"""Line charts as SVG text, to stand inside a page."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quorem.errors import UserError

POINTS = 400
"""Most points of a line: of a longer one, those that follow each other are averaged."""


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        label: for the legend.
        steps: where; rising.
        values: what; as many.
        color: of matplotlib's cycle: lines of one run have the same.
        dashed: for what a line is to be compared with.
    """

    label: str
    steps: Sequence[float]
    values: Sequence[float]
    color: int = 0
    dashed: bool = False


def chart(title: str, lines: Sequence[Line], *, unit: str = "") -> str:
    """A chart of values over steps.

    Args:
        title: above it, and what a screen reader says.
        lines: at least one.
        unit: of the values.

    Returns:
        An <svg> element; the same lines give the same text.

    Raises:
        UserError: if matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("a report needs matplotlib and jinja2: pip install 'quorem[report]'") from error
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 9}):
        figure = Figure(figsize=(5.4, 3.0), layout="constrained")
        axes = figure.subplots()
        for line in lines:
            steps, values = _thinned(line.steps), _thinned(line.values)
            style, marker = ("--" if line.dashed else "-"), ("." if len(steps) < 12 else "")
            label = f" {line.label}".replace(
                "$", r"\$"
            )  # matplotlib hides labels that begin with _, and $ is for formulas
            axes.plot(steps, values, style, marker=marker, label=label, color=f"C{line.color}", linewidth=1.3)
        axes.set(title=title, xlabel="step", ylabel=unit)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    found = text.getvalue()
    return found[found.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{title}"', 1)


def _thinned(values: Sequence[float]) -> np.ndarray:
    """Means of equally many values that follow each other, at most POINTS of them."""
    pieces = np.array_split(np.asarray(values, dtype=float), min(POINTS, max(1, len(values))))
    return np.array([piece.mean() for piece in pieces])
