"""What a report says of one run: its curves, where it stands, its scores beside those it must beat, its settings."""

import logging
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from quorem.config.loading import from_mapping, leaves, to_mapping
from quorem.config.settings import PretrainConfig
from quorem.config.shape import NUMBER, check_shape, is_number
from quorem.errors import UserError
from quorem.finetuning.checkpoint import SEED
from quorem.plan.recipes import resolve
from quorem.pretraining.verdict import recent
from quorem.reporting.examples import Token, examples
from quorem.tasks import TASKS, load_task
from quorem.training.run_folder import flat, read_records, read_settings

SCORES = (
    "accuracy", "macro_f1", "micro_f1", "f1", "exact_match", "precision", "recall", "pearson", "spearman", "mae",
    "rmse",
)  # fmt: skip
RESULT = {
    **dict.fromkeys(SCORES, NUMBER), "verdict": str, "vocab_size": NUMBER, "parameters": {...: NUMBER},
    "labels": [str], "confusion": [[NUMBER]], "confusions": [[int]], "test": {...: NUMBER},
    "baselines": {...: {...: NUMBER}}, "held_out": {...: object},
}  # fmt: skip
ENVIRONMENT = {"versions": {...: str}}
RECORD = {"step": NUMBER, "held_out": {...: object}}
STANDS = {
    "mlm_loss": "mlm loss", "unigram_entropy": "unigram entropy", "rtd_loss": "rtd loss",
    "base_rate_entropy": "base-rate entropy", "rtd_auc": "AUC", "share_replaced": "share replaced",
}  # fmt: skip
RANKING = ("hr@1", "hr@10", "hr@20", "ndcg@20", "mrr@20", "coverage@20")
MEASURED = "tokens a second"  # differs between any two runs, and says nothing of what is to be compared


class Row(NamedTuple):
    """Whose scores: a text for each measure, empty where there is none.

    Attributes:
        whose: a run's, or a baseline's.
        values: as many as there are measures.
        own: whether it is a run's.
    """

    whose: str
    values: list[str]
    own: bool = False


class Scores(NamedTuple):
    """A table of scores.

    Attributes:
        of: the rows that are judged.
        measures: names of the columns.
        rows: of it, runs first.
    """

    of: str
    measures: list[str]
    rows: list[Row]


class ReportedRun:
    """What a report says of a run, from its folder.

    Args:
        folder: of a run of `quorem pretrain` or `quorem finetune`, finished or not.

    Raises:
        UserError: if it is none, has logged nothing yet, or took no step.
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
        if not self.records and self.config.train.max_steps == 0:
            raise UserError(
                f"{folder}: took no step (train.max_steps=0), so there are no curves: report a run that was trained"
            )
        if not self.records:
            why = "no whole line in metrics.jsonl" if (folder / "metrics.jsonl").exists() else "no metrics.jsonl"
            raise UserError(f"{folder}: has logged nothing yet ({why}): wait for its lines, or delete a damaged run")
        finished = folder / "result.json"
        self.result = read_settings(finished) if finished.exists() else None
        if self.result is not None:
            check_shape(self.result, RESULT, str(finished))
            _check_confusions(self.result, finished)
            if folder.resolve().name.startswith(SEED) and not self.result.get("baselines"):
                self.result["baselines"] = _baselines_of_seeds(folder.resolve().parent / "result.json")
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

    def recent(self) -> tuple[dict[str, float], int]:
        """Means over the last steps, which the verdict of a pre-training run is about too, and their number."""
        training = [record for record in self.records if not any(key.startswith("held_out.") for key in record)]
        return recent(training, tuple(STANDS))

    def scores(self) -> Scores | None:
        """A finished fine-tuning run's scores, beside those of what it must beat on the same rows."""
        result = self.result or {}
        judged, measures = result.get("test", result), RANKING if "test" in result else SCORES
        found = [name for name in measures if is_number(judged.get(name))]
        if not found:
            return None
        number = judged.get("rows", (result.get("held_out") or {}).get("rows"))
        of = "test rows" if "test" in result else "held-out rows"
        of = f"{number:,} {of}" if is_number(number) else of
        rows = {"this model": judged, **result.get("baselines", {})}

        def written(each: Mapping[str, Any]) -> list[str]:
            return [f"{each[key]:.4f}" if is_number(each.get(key)) else "" for key in found]

        return Scores(of, found, [Row(name, written(each), own=each is judged) for name, each in rows.items()])

    def baselines(self, measure: str) -> dict[str, float]:
        """What a finished run's baselines reach on the rows that its epochs were judged on."""
        result = self.result or {}
        if "test" in result:  # they are judged on other rows than epochs are
            return {}
        found = {name: each.get(measure) for name, each in result.get("baselines", {}).items()}
        return {name: float(score) for name, score in found.items() if is_number(score)}

    def facts(self) -> dict[str, str]:
        """What a report says of every run, by name, but for scores."""
        state = "finished" if self.result else "not finished"
        found = {"run": f"{self.kind}, {state}, {self.records[-1]['step']:,} steps"}
        means = self.recent()[0]
        found |= {label: f"{means[key]:.3f}" for key, label in STANDS.items() if key in means}
        result = self.result or {}
        for name, size in result.get("parameters", {}).items():
            found[f"parameters, {name}"] = f"{size:,}"
        if "vocab_size" in result:
            found["vocabulary"] = f"{result['vocab_size']:,}"
        if pace := self.line("tokens_per_second")[1]:
            found[MEASURED] = f"{statistics.median(pace):,.0f} (median)"
        versions = self.environment.get("versions", {})
        there = {"device": "device", "precision": "precision", "threads": "threads", "platform": "platform"}
        found |= {label: str(self.environment[key]) for key, label in there.items() if key in self.environment}
        return found | {"versions": ", ".join(f"{name} {number}" for name, number in versions.items())}

    def settings_of(self) -> dict[str, tuple[str, bool]]:
        """Every setting by its dotted name: its value, and whether it is another than without it there would be."""
        others = _not_default(self.config)
        return {name: (str(value), name in others) for name, value, _ in leaves(self.config)}

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


def _not_default(config: Any) -> set[str]:
    """Names of settings that are neither the default nor what the others make of them, if left out one by one.

    Where what they were made from is no longer there: of all that are not the default.
    """
    default = {name: value for name, value, _ in leaves(type(config)())}
    found = {name: value for name, value, _ in leaves(config) if value != default[name]}
    whole = _resolved(config)
    if whole is None:
        return set(found)
    left, kept = config, set()
    for name in sorted(found, key=lambda each: default[each] is not None):  # first what is open by default
        without = _with(left, name, default[name])
        if _resolved(without) == whole:
            left = without
        else:
            kept.add(name)
    return kept


def _with(config: Any, name: str, value: Any) -> Any:
    values = to_mapping(config)
    *sections, key = name.split(".")
    section = values
    for each in sections:
        section = section[each]
    section[key] = value
    return from_mapping(type(config), values)


def _resolved(config: Any) -> Any:
    """With what is left open filled in; None where the settings do not go together, or the model is not there."""
    if not isinstance(config, PretrainConfig) and not Path(config.pretrained).exists():
        return None
    before = logging.root.manager.disable
    logging.disable(max(before, logging.INFO))  # what is said of choices was said when the run began
    try:
        return resolve(config) if isinstance(config, PretrainConfig) else load_task(config.task).resolve(config)
    except UserError:
        return None
    finally:
        logging.disable(before)


def _baselines_of_seeds(path: Path) -> dict[str, Any]:
    """Those of a folder of several seeds, which are fitted once for all; none before all are finished."""
    if not path.exists():
        return {}
    result = read_settings(path)
    check_shape(result, RESULT, str(path))
    found: dict[str, Any] = result.get("baselines", {})
    return found


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
