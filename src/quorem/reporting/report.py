"""A page about one run or several: a single HTML file that needs nothing else."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorem.config.loading import from_mapping, leaves
from quorem.config.settings import PretrainConfig
from quorem.config.shape import NUMBER, check_shape, is_number
from quorem.errors import UserError
from quorem.files import write_text
from quorem.lock import locked
from quorem.reporting.charts import Line, chart
from quorem.reporting.examples import Token, examples
from quorem.tasks import TASKS
from quorem.training.run_folder import flat, read_records, read_settings

TEMPLATE = Path(__file__).with_name("templates") / "report.html"
SCORES = {
    "accuracy": "held-out accuracy", "macro_f1": "macro f1", "micro_f1": "micro f1", "exact_match": "exact match",
    "pearson": "Pearson's correlation", "spearman": "Spearman's correlation", "rmse": "root mean squared error",
}  # fmt: skip
RESULT = {
    **dict.fromkeys(SCORES, NUMBER),
    "verdict": str, "vocab_size": NUMBER, "parameters": {...: NUMBER},
    "labels": [str], "confusion": [[NUMBER]], "confusions": [[int]], "test": {...: NUMBER},
    "baselines": {...: {...: NUMBER}},
}  # fmt: skip
ENVIRONMENT = {"versions": {...: str}}
RECORD = {"step": NUMBER, "held_out": {...: object}}
RANKING = ("hr@20", "ndcg@20", "mrr@20")
LAST = 5  # records whose mean is shown as where a run stands


@dataclass(frozen=True)
class Chart:
    """What a chart shows of each run: keys of its records, each with a label; dashed ones are what it is held against.

    Attributes:
        title: of the chart.
        keys: label by key, as in metrics.jsonl; held_out.accuracy is inside held_out.
        unit: of the values.
        against: keys of dashed lines.
    """

    title: str
    keys: Mapping[str, str]
    unit: str = ""
    against: tuple[str, ...] = ()


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
    Chart("Held-out scores", {"held_out.accuracy": "accuracy", "held_out.macro_f1": "macro f1"}),
    Chart("Ranking of held-out items", {f"held_out.{name}": name for name in RANKING}),
    Chart("-log p of the next item", {"nll": "training"}, "nats"),
    Chart("Loss", {"loss": "training", "held_out.loss": "held out"}, "nats"),
    Chart("Throughput", {"tokens_per_second": "real tokens"}, "tokens a second"),
    Chart("Gradient norm", {"gradient_norm": "before clipping"}),
)  # fmt: skip


class ReportedRun:
    """What a report says of a run, from its folder.

    Args:
        folder: of a run of `quorem pretrain` or `quorem finetune`, finished or not.

    Raises:
        UserError: if it is none, or has logged nothing yet.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "config.yaml").is_file():
            raise UserError(f"{folder}: holds no run (no config.yaml): give the folder of a run")
        self.folder, self.settings = folder, read_settings(folder / "config.yaml")
        task = str(self.settings.get("task"))
        kind: Any = TASKS[task].settings if task in TASKS else PretrainConfig
        self.config = from_mapping(kind, self.settings, source=f"{folder}/config.yaml")
        self.records = []
        for record in read_records(folder):
            check_shape({"step": None} | record, RECORD, f"{folder / 'metrics.jsonl'}: a record")
            self.records.append(dict(flat(record)))
        if not self.records:
            why = "no whole line in metrics.jsonl" if (folder / "metrics.jsonl").exists() else "no metrics.jsonl"
            raise UserError(f"{folder}: has logged nothing yet ({why}): wait for its lines, or delete a damaged run")
        finished = folder / "result.json"
        self.result = read_settings(finished) if finished.exists() else None
        if self.result is not None:
            check_shape(self.result, RESULT, str(finished))
            _check_confusions(self.result, finished)
        environment = folder / "environment.json"
        self.environment = read_settings(environment) if environment.exists() else {}
        check_shape(self.environment, ENVIRONMENT, str(environment))
        self.name = folder.resolve().name

    @property
    def kind(self) -> str:
        """What it does."""
        return "pre-training" if isinstance(self.config, PretrainConfig) else "fine-tuning"

    def line(self, key: str) -> tuple[list[float], list[float]]:
        """Steps, and values of a key, where there are any."""
        found = [(record["step"], record[key]) for record in self.records if is_number(record.get(key))]
        return [step for step, _ in found], [value for _, value in found]

    def last(self, key: str) -> float | None:
        """The mean of a key over the last records that have it."""
        values = self.line(key)[1][-LAST:]
        return statistics.mean(values) if values else None

    def facts(self) -> dict[str, str]:
        """What a report says of every run, by name."""
        state = "finished" if self.result else "not finished"
        found = {"run": f"{self.kind}, {state}, {self.records[-1]['step']:,} steps"}
        table: list[tuple[str, str, Callable[[float], str]]] = [
            ("mlm_loss", "mlm loss", "{:.3f}".format), ("unigram_entropy", "unigram entropy", "{:.3f}".format),
            ("rtd_loss", "rtd loss", "{:.4f}".format), ("base_rate_entropy", "base-rate entropy", "{:.4f}".format),
            ("rtd_auc", "AUC", "{:.3f}".format), ("share_replaced", "share replaced", "{:.3f}".format),
        ]  # fmt: skip
        found |= {label: show(value) for key, label, show in table if (value := self.last(key)) is not None}
        result = self.result or {}
        found |= {label: f"{result[name]:.4f}" for name, label in SCORES.items() if name in result}
        for of, scores in {"the model": result.get("test", {}), **result.get("baselines", {})}.items():
            found |= {f"{measure}, {of}": f"{scores[measure]:.4f}" for measure in RANKING if measure in scores}
            found |= {f"{label}, {of}": f"{scores[name]:.4f}" for name, label in SCORES.items() if name in scores}
        for name, size in result.get("parameters", {}).items():
            found[f"parameters, {name}"] = f"{size:,}"
        if "vocab_size" in result:
            found["vocabulary"] = f"{result['vocab_size']:,}"
        if pace := self.line("tokens_per_second")[1]:
            found["tokens a second"] = f"{statistics.median(pace):,.0f} (median)"
        versions = self.environment.get("versions", {})
        there = {"device": "device", "precision": "precision", "threads": "threads", "platform": "platform"}
        found |= {label: str(self.environment[key]) for key, label in there.items() if key in self.environment}
        return found | {"versions": ", ".join(f"{name} {number}" for name, number in versions.items())}

    def chosen(self) -> dict[str, str]:
        """Settings that are not the defaults, by dotted name."""
        default = {name: value for name, value, _ in leaves(type(self.config)())}
        return {name: str(value) for name, value, _ in leaves(self.config) if value != default[name]}

    def examples(self) -> tuple[list[list[Token]], str]:
        """Rows with masks, samples and verdicts; or why there are none."""
        if not isinstance(self.config, PretrainConfig):
            return [], ""
        if self.result is None:
            return [], "Examples follow when the run is finished."
        try:
            return examples(self.folder, self.config), ""
        except UserError as error:
            return [], f"No examples: {error}"


def report(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Write report.html: curves, sizes, settings, confusions, and tokens with what both networks made of them.

    Args:
        folders: of runs, finished or not; several are drawn into the same charts.
        out: the file; report.html in the first folder if None. One that is there is replaced.

    Returns:
        The file.

    Raises:
        UserError: for a folder that holds no run, or without the packages it needs.
    """
    runs = [ReportedRun(folder) for folder in folders]
    out = folders[0] / "report.html" if out is None else out
    charts = [svg for each in CHARTS if (svg := _drawn(each, runs))]
    names = _names(runs)
    facts = {name: run.facts() for name, run in zip(names, runs, strict=True)}
    chosen = {name: run.chosen() for name, run in zip(names, runs, strict=True)}
    page = _template().render(
        title=", ".join(names),
        verdicts=[(name, run.result["verdict"]) for name, run in zip(names, runs, strict=True)
                  if run.result and "verdict" in run.result],
        facts=_table(facts),
        settings=_table(chosen),
        names=names,
        charts=charts,
        confusions=[(name, run.result) for name, run in zip(names, runs, strict=True)
                    if run.result and ("confusion" in run.result or run.result.get("confusions"))],
        examples=[(name, *run.examples()) for name, run in zip(names, runs, strict=True) if run.kind == "pre-training"],
    )  # fmt: skip
    with locked(out):
        write_text(out, page)
    return out


def _template() -> Any:
    try:
        from jinja2 import Environment
    except ImportError as error:
        raise UserError("a report needs matplotlib and jinja2: pip install 'quorem[report]'") from error
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        TEMPLATE.read_text(encoding="utf-8")
    )


def _drawn(plan: Chart, runs: Sequence[ReportedRun]) -> str | None:
    lines, several = [], len(runs) > 1
    for number, (name, run) in enumerate(zip(_names(runs), runs, strict=True)):
        for place, (key, label) in enumerate(plan.keys.items()):
            steps, values = run.line(key)
            if steps:
                full = f"{name}: {label}" if several else label
                color = number if several else place
                dashed = key in plan.against or (several and place > 0)
                lines.append(Line(full, steps, values, color=color, dashed=dashed))
    return chart(plan.title, lines, unit=plan.unit) if lines else None


def _names(runs: Sequence[ReportedRun]) -> list[str]:
    """Names of runs: that of the folder, or its whole path where two have the same."""
    short = [run.name for run in runs]
    return short if len(set(short)) == len(short) else [str(run.folder) for run in runs]


def _table(columns: Mapping[str, Mapping[str, str]]) -> list[tuple[str, list[str], bool]]:
    """Rows of a table with a column for each run: what, its values, and whether they differ."""
    keys = dict.fromkeys(key for column in columns.values() for key in column)
    rows = [(key, [column.get(key, "") for column in columns.values()]) for key in keys]
    return [(key, values, len(set(values)) > 1) for key, values in rows]


def _check_confusions(result: Mapping[str, Any], file: Path) -> None:
    """Accept counts that are of the labels.

    Raises:
        UserError: if there are more or fewer.
    """
    number = len(result.get("labels", ()))
    pairs = result.get("confusions", ())
    if any(len(row) != number for row in [result.get("confusion", []), *result.get("confusion", [])] if row) or any(
        len(pair) != 3 or not all(0 <= label < number for label in pair[:2]) for pair in pairs
    ):
        raise UserError(
            f"{file}: its confusions are not of its {number} labels: the file is damaged: restore or delete it"
        )
