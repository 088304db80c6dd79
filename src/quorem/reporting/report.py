"""A page about one run or several: a single HTML file that needs nothing else.

It begins with what can be seen: rows as both networks read them, and scores beside those they must beat. A chart has
one scale. Of runs side by side a row is marked where they say different things of one matter: a setting that one of
them does not have is no difference, and nor is how fast the machine was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorem.errors import UserError
from quorem.files import write_text
from quorem.finetuning.checkpoint import model_folders
from quorem.lock import locked
from quorem.reporting.charts import Line, chart
from quorem.reporting.reported import MEASURED, ReportedRun, Row, Scores

TEMPLATE = Path(__file__).with_name("templates") / "report.html"


@dataclass(frozen=True)
class Chart:
    """What a chart shows of each run: keys of its records, each with a label; dashed ones are what it is held against.

    Attributes:
        title: of the chart.
        keys: label by key, as in metrics.jsonl; held_out.accuracy is inside held_out.
        unit: of the values.
        against: keys of dashed lines.
        kind: of the runs that it is about; None for all, whose numbers are then on one scale.
        baselines: whether scores of result.json's baselines, on the same rows, stand beside the first key there.
    """

    title: str
    keys: Mapping[str, str]
    unit: str = ""
    against: tuple[str, ...] = ()
    kind: str | None = None
    baselines: bool = False


CHARTS = (
    Chart("Generator's loss", {"mlm_loss": "mlm", "unigram_entropy": "unigram", "held_out.mlm_loss": "held out"},
          "nats", ("unigram_entropy",)),
    Chart("Discriminator's loss",
          {"rtd_loss": "rtd", "base_rate_entropy": "base rate", "held_out.rtd_loss": "held out"},
          "nats", ("base_rate_entropy",)),
    Chart("Discriminator's AUC", {"rtd_auc": "AUC", "held_out.rtd_auc": "held out"}),
    Chart("Accuracies and share replaced", {
        "rtd_accuracy": "discriminator", "mlm_accuracy": "generator", "share_replaced": "tokens replaced",
    }),
    Chart("Held-out scores", {
        "held_out.accuracy": "accuracy", "held_out.micro_f1": "micro f1", "held_out.f1": "f1",
        "held_out.macro_f1": "macro f1", "held_out.exact_match": "exact match", "held_out.precision": "precision",
        "held_out.recall": "recall",
    }, baselines=True),
    Chart("Held-out correlations", {"held_out.pearson": "Pearson", "held_out.spearman": "Spearman"}, baselines=True),
    Chart("Held-out errors", {"held_out.rmse": "root mean squared", "held_out.mae": "mean absolute"},
          "as the labels", baselines=True),
    Chart("Ranking of held-out items", {f"held_out.{name}": name for name in ("hr@20", "ndcg@20", "mrr@20")}),
    Chart("-log p of the next item", {"nll": "training"}, "nats"),
    Chart("Both losses, weighted", {"loss": "training", "held_out.loss": "held out"}, kind="pre-training"),
    Chart("Loss", {"loss": "training", "held_out.loss": "held out"}, kind="fine-tuning"),
    Chart("Throughput", {"tokens_per_second": "real tokens"}, "tokens a second"),
    Chart("Gradient norm", {"gradient_norm": "before clipping"}),
)  # fmt: skip


def report(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Write report.html: tokens with what both networks made of them, scores, curves, confusions, sizes, settings.

    Args:
        folders: of runs, finished or not; several are drawn into the same charts. One with --seeds stands for its runs.
        out: the file; report.html in the first folder if None. One that is there is replaced.

    Returns:
        The file.

    Raises:
        UserError: for a folder that holds no run, or without the packages it needs.
    """
    runs = [ReportedRun(each) for folder in folders for each in _seeds(folder)]
    out = folders[0] / "report.html" if out is None else out
    named = dict(zip(_names(runs), runs, strict=True))
    page = _template().render(
        title=", ".join(named),
        verdicts=[(name, run.result["verdict"]) for name, run in named.items()
                  if run.result and "verdict" in run.result],
        means=sorted({steps for run in named.values() if (steps := run.recent()[1])}),
        scores=_scores(named),
        facts=_table({name: run.facts() for name, run in named.items()}),
        settings=_settings(list(named.values())),
        names=list(named),
        charts=[svg for each in CHARTS if (svg := _drawn(each, named))],
        confusions=[(name, run.result) for name, run in named.items()
                    if run.result and ("confusion" in run.result or run.result.get("confusions"))],
        examples=[(name, *run.examples()) for name, run in named.items() if run.kind == "pre-training"],
    )  # fmt: skip
    with locked(out):
        write_text(out, page)
    return out


def _seeds(folder: Path) -> list[Path]:
    """A run, or those of a folder that `finetune --seeds` has filled."""
    if (folder / "metrics.jsonl").exists() or not (folder / "config.yaml").is_file():
        return [folder]
    return [each.parent for each in model_folders(folder) if each != folder] or [folder]


def _template() -> Any:
    try:
        from jinja2 import Environment
    except ImportError as error:
        raise UserError("a report needs matplotlib and jinja2: pip install 'quorem[report]'") from error
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        TEMPLATE.read_text(encoding="utf-8")
    )


def _drawn(plan: Chart, runs: Mapping[str, ReportedRun]) -> str | None:
    """A chart, if there is a line in it; scores of several runs by their first measure, for all would be a tangle."""
    lines, several, counted = list[Line](), len(runs) > 1, dict[tuple[str, float], Line]()
    for number, (name, run) in enumerate(runs.items()):
        before = f"{name}: " if several else ""
        keys = plan.keys if plan.kind in (None, run.kind) else ()
        there = [(key, *run.line(key)) for key in keys if run.line(key)[0]]
        for place, (key, steps, values) in enumerate(there[:1] if several and plan.baselines else there):
            dashed, dotted = key in plan.against, several and place > 0
            color = number if several else place
            lines.append(Line(before + plan.keys[key], steps, values, color=color, dashed=dashed, dotted=dotted))
        if plan.baselines and there:
            key, steps, _ = there[0]
            for baseline, score in run.baselines(key.removeprefix("held_out.")).items():
                line = Line(
                    f"{plan.keys[key]}, {baseline}", [steps[0], steps[-1]], [score] * 2, color=None, dashed=True
                )
                counted.setdefault((line.label, score), line)
    lines += counted.values()
    return chart(plan.title, lines, unit=plan.unit) if any(len(line.steps) > 1 for line in lines) else None


def _scores(runs: Mapping[str, ReportedRun]) -> list[Scores]:
    """Tables of scores: runs that are judged by the same measures in one, and what they must beat once."""
    tables: dict[tuple[str, ...], Scores] = {}
    for name, run in runs.items():
        if (found := run.scores()) is None:
            continue
        table = tables.setdefault((found.of, *found.measures), Scores(found.of, found.measures, []))
        own, *others = found.rows
        whose = name if len(runs) > 1 else own.whose
        table.rows.insert(sum(row.own for row in table.rows), Row(whose, own.values, own=True))
        table.rows.extend(row for row in others if row not in table.rows)
    return list(tables.values())


def _names(runs: Sequence[ReportedRun]) -> list[str]:
    """Names of runs: that of the folder, or its whole path where two have the same."""
    short = [run.name for run in runs]
    return short if len(set(short)) == len(short) else [str(run.folder) for run in runs]


def _table(columns: Mapping[str, Mapping[str, str]]) -> list[tuple[str, list[str], bool]]:
    """Rows of a table with a column for each run: what, its values, and whether those that have it differ."""
    keys = dict.fromkeys(key for column in columns.values() for key in column)
    rows = [(key, [column.get(key, "") for column in columns.values()]) for key in keys]
    return [(key, values, key != MEASURED and len(set(values) - {""}) > 1) for key, values in rows]


def _settings(runs: Sequence[ReportedRun]) -> list[tuple[str, list[str], bool]]:
    """The same of settings that are not the default in one of the runs; what the others have stands beside it."""
    known = [run.settings_of() for run in runs]
    keys = dict.fromkeys(name for each in known for name, (_, chosen) in each.items() if chosen)
    rows = [(key, [each[key][0] if key in each else "" for each in known]) for key in keys]
    return [(key, values, len({each[key][0] for each in known if key in each}) > 1) for key, values in rows]
