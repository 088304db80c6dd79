"""Line charts as SVG text, to stand inside a page."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quorem.errors import UserError

POINTS = 400
"""Most points of a line: of a longer one, those that follow each other are averaged."""
LONGEST_LABEL = 56  # characters that a legend has room for


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        label: for the legend.
        steps: where; rising.
        values: what; as many.
        color: of matplotlib's cycle, lines of one run have the same; None for grey.
        dashed: for what a line is to be compared with.
        dotted: for a second matter of the same run.
    """

    label: str
    steps: Sequence[float]
    values: Sequence[float]
    color: int | None = 0
    dashed: bool = False
    dotted: bool = False

    @property
    def style(self) -> str:
        """As matplotlib has it."""
        return "--" if self.dashed else ":" if self.dotted else "-"


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
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 10}):
        figure = Figure(figsize=(4.6, 2.6 + 0.19 * len(lines)), layout="constrained")
        axes = figure.subplots()
        for line in lines:
            steps, values = _thinned(line.steps), _thinned(line.values)
            marker = "." if len(steps) < 12 and not line.dashed else ""
            # matplotlib hides labels that begin with _, and $ is for formulas
            label = f" {_short(line.label)}".replace("$", r"\$")
            color = "0.45" if line.color is None else f"C{line.color}"
            axes.plot(steps, values, line.style, marker=marker, label=label, color=color, linewidth=1.3)
        axes.set(title=title, xlabel="step", ylabel=unit)
        axes.grid(alpha=0.25)
        figure.legend(loc="outside lower left", fontsize=9.5, frameon=False, borderaxespad=0.2, labelspacing=0.3)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    found = text.getvalue()
    return found[found.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{title}"', 1)


def _short(label: str) -> str:
    """A label that fits below its chart."""
    return label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "\u2026"


def _thinned(values: Sequence[float]) -> np.ndarray:
    """Means of equally many values that follow each other, at most POINTS of them."""
    pieces = np.array_split(np.asarray(values, dtype=float), min(POINTS, max(1, len(values))))
    return np.array([piece.mean() for piece in pieces])
