"""A model card: README.md beside a model, from what its run has written. The same folder gives the same card.

Metrics stand in the card's metadata (model-index) as result.json has them, and in a table beside what they are held
against. Of paths only the last name is told.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from quorem.errors import UserError
from quorem.files import write_text
from quorem.training.run_folder import read_settings

README = "README.md"
MODELS = ("discriminator", "generator", "model")  # folders of a run
KINDS = {
    "QuoremForPreTraining": "discriminator", "ElectraForPreTraining": "discriminator",
    "QuoremForMaskedLM": "generator", "ElectraForMaskedLM": "generator",
    "QuoremForSequenceClassification": "classifier", "ElectraForSequenceClassification": "classifier",
    "QuoremForNextItem": "next_item",
    "QuoremForQuestionAnswering": "question_answering", "ElectraForQuestionAnswering": "question_answering",
}  # fmt: skip
TITLES = {
    "discriminator": "an ELECTRA discriminator: of each token it says whether it was replaced",
    "generator": "the generator of an ELECTRA pre-training: it fills in masked tokens",
    "classifier": "a text classifier on an ELECTRA encoder",
    "next_item": "a recommender: of a row of items it says which comes next",
    "question_answering": "a model that finds the answer to a question in a text, on an ELECTRA encoder",
}
PIPELINES = {
    "generator": "fill-mask", "classifier": "text-classification", "question_answering": "question-answering",
}  # fmt: skip
AGAINST = {
    "mlm_loss": "unigram_entropy", "rtd_loss": "base_rate_entropy", "rtd_auc": None, "mlm_accuracy": None,
    "share_replaced": None, "accuracy": None, "macro_f1": None, "f1": None, "micro_f1": None, "exact_match": None,
    "pearson": None, "spearman": None, "mae": None, "rmse": None, "loss": None,
}  # fmt: skip
"""Metrics of result.json, and those beside them that mean nothing was learned."""
RANKING = ("hr@1", "hr@10", "hr@20", "ndcg@20", "mrr@20", "coverage@20")
OF_DATA = (
    "path",
    "text_column",
    "label_column",
    "format",
    "held_out",
    "validation_share",
    "rows",
    "max_length",
    "test",
)
SIZES = (
    "vocab_size", "embedding_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings",
)  # fmt: skip
LIMITS = {
    "discriminator": "Its scores are of tokens a small generator put in; they say nothing of texts by other means.",
    "generator": "It is small on purpose, and of use in pre-training; the discriminator is the better encoder.",
    "classifier": "It was judged on held-out rows of the data it learned from; other data can be harder.",
    "next_item": "It knows the items of its vocabulary only, and ranks them by rows like those it has learned from.",
    "question_answering": "An answer is a span of the text as it is written; it is not made sure that it is right.",
}
USE = {
    "quorem": 'import quorem  # pip install quorem\n\nmodel = quorem.load("{folder}")',
    "electra": "from transformers import {auto}, AutoTokenizer\n\n"
    'model = {auto}.from_pretrained("{folder}")\n'
    'tokenizer = AutoTokenizer.from_pretrained("{folder}")',
    "remote-code": "from transformers import {auto}, AutoTokenizer\n\n"
    'model = {auto}.from_pretrained("{folder}", trust_remote_code=True)  # runs its code: read it\n'
    'tokenizer = AutoTokenizer.from_pretrained("{folder}")',
    "onnx": "import onnxruntime\nfrom transformers import AutoTokenizer\n\n"
    'session = onnxruntime.InferenceSession("{folder}/model.onnx")\n'
    'tokenizer = AutoTokenizer.from_pretrained("{folder}")\n'
    'encoded = tokenizer(["a text"], padding=True, return_tensors="np")\n'
    'outputs = session.run(None, {{name: encoded[name] for name in ("input_ids", "attention_mask")}})',
}
AUTO = {
    "discriminator": "AutoModelForPreTraining", "generator": "AutoModelForMaskedLM",
    "classifier": "AutoModelForSequenceClassification", "next_item": "AutoModelForCausalLM",
    "question_answering": "AutoModelForQuestionAnswering",
}  # fmt: skip


@dataclass(frozen=True)
class Made:
    """What is known of how a model was made; empty where it has no run around it."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)


def write_cards(run: str | Path, *, license: str | None = None) -> list[Path]:
    """Write README.md into every model folder of a run that has none, or into a model folder.

    Args:
        run: a run, or a model folder.
        license: of the weights, by the hub's name for it; the card says so where there is none.

    Returns:
        The files.

    Raises:
        UserError: if there is no model, or every one has a README.md.
    """
    folder = Path(run)
    models = [folder, *(folder / name for name in MODELS)]
    models = [place for place in models if (place / "config.json").is_file()]
    if not models:
        raise UserError(f"{folder}: has no model (no config.json): give a finished run or a model folder")
    missing = [place for place in models if not (place / README).exists()]
    if not missing:
        raise UserError(f"{models[0] / README}: exists already: delete it to have it written anew")
    for place in missing:
        write_text(place / README, model_card(place, made=made_by(place), license=license))
    return [place / README for place in missing]


def made_by(folder: str | Path) -> Made:
    """The run around a model folder, or a run itself."""
    place = Path(folder).resolve()
    runs = [place]
    if place.name in MODELS:
        runs += [place.parent.parent if place.parent.name == "best" else place.parent]
    for run in runs:
        if (run / "config.yaml").is_file():
            files = [run / name for name in ("result.json", "environment.json")]
            found = [read_settings(file) if file.is_file() else {} for file in files]
            return Made(run.name, read_settings(run / "config.yaml"), *found)
    return Made(place.name)


def model_card(folder: Path, *, made: Made, format: str = "quorem", license: str | None = None) -> str:
    """The text of a model folder's README.md.

    Args:
        folder: with config.json.
        made: how the model was made.
        format: quorem, or the one it is exported in.
        license: of the weights.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = KINDS.get((config.get("architectures") or [""])[0], "discriminator")
    results = _results(kind, made)
    data = ModelCardData(
        license=license,
        library_name={"quorem": "quorem", "onnx": "onnx"}.get(format, "transformers"),
        pipeline_tag=PIPELINES.get(kind),
        tags=["electra", "quorem", *(["custom_code"] if format == "remote-code" else [])],
        model_name=made.name,
        eval_results=results or None,
    )
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {made.name}",
        f"This is {TITLES[kind]}. quorem has made it.",
        "## Use", f"```python\n{USE[format].format(auto=AUTO[kind], folder='FOLDER')}\n```",
        "## Results", _results_said(kind, made),
        "## Size", _sizes_said(config, made, format),
        "## Data", _data_said(made),
        "## How it was made", _commands_said(kind, made),
        "## Limits", _limits_said(kind, made, license),
    ]  # fmt: skip
    return str(ModelCard("\n\n".join(parts) + "\n"))


def _results(kind: str, made: Made) -> list[EvalResult]:
    """Metrics as result.json has them, for the metadata."""
    found, rows = _judged(made)
    held: dict[str, Any] = {"task_type": PIPELINES.get(kind, "other"), "dataset_type": "other", "dataset_name": rows}
    names = RANKING if kind == "next_item" else AGAINST
    return [
        EvalResult(**held, metric_type=name, metric_value=found[name])
        for name in names
        if isinstance(found.get(name), int | float)
    ]


def _judged(made: Made) -> tuple[Mapping[str, Any], str]:
    """The metrics of a run, and the rows that they are of."""
    result, held_out = made.result, made.result.get("held_out") or {}
    if "test" in result:
        return result["test"], "test rows"
    if "mlm_loss" in held_out:
        return held_out, "held-out rows"
    return result, "held-out rows" if held_out or "accuracy" in result else "rows of the last training step"


def _results_said(kind: str, made: Made) -> str:
    result, rows = _judged(made)
    if not result:
        return "No result.json was beside the model."
    if kind == "next_item":
        ranked = {"this model": result, **made.result.get("baselines", {})}
        lines = [f"| {rows} | " + " | ".join(RANKING) + " |", "|---|" + "---|" * len(RANKING)]
        lines += [f"| {name} | " + " | ".join(_number(found.get(key)) for key in RANKING) + " |"
                  for name, found in ranked.items()]  # fmt: skip
        return "\n".join(lines)
    baselines = made.result.get("baselines", {})
    titles = [rows, "this model", "held against", *baselines]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for name, other in AGAINST.items():
        if isinstance(result.get(name), int | float):
            beside = f"{other} {_number(result[other])}" if other and other in result else _majority(name, result)
            counted = [_number(found.get(name)) for found in baselines.values()]
            lines.append(f"| {' | '.join([name, _number(result[name]), beside, *counted])} |")
    return "\n".join([*lines, *(["", str(made.result["verdict"])] if "verdict" in made.result else [])])


def _majority(name: str, result: Mapping[str, Any]) -> str:
    """The share of the largest class among the held-out rows, which naming it always would reach."""
    if name != "accuracy" or not result.get("confusion"):
        return ""
    rows = [sum(row) for row in result["confusion"]]
    return f"the largest class always: {max(rows) / max(1, sum(rows)):.4f}"


def _sizes_said(config: Mapping[str, Any], made: Made, format: str) -> str:
    table = (config.get("embedding") or {"kind": "dense"})["kind"]
    lines = [f"- {name}: {config[name]:,}" for name in SIZES if isinstance(config.get(name), int)]
    lines += [f"- token table: {table}" + (" (made so for this format)" if format == "electra" else "")]
    parameters = made.result.get("parameters")
    if isinstance(parameters, dict):
        lines += [f"- parameters, {name}: {_number(value)}" for name, value in parameters.items()]
    return "\n".join(lines)


def _data_said(made: Made) -> str:
    data = made.settings.get("data") or {}
    lines = [f"- {name}: {_shown(name, data[name])}" for name in OF_DATA if data.get(name) not in (None, "", 0)]
    if isinstance(labels := made.result.get("labels"), list):
        lines.append(f"- classes: {', '.join(map(str, labels))}")
    return "\n".join(lines) or "Nothing is known of it."


def _commands_said(kind: str, made: Made) -> str:
    if not made.settings:
        return "No config.yaml was beside the model."
    path = _shown("path", (made.settings.get("data") or {}).get("path"))
    command = f"quorem pretrain {path} --config config.yaml --out {made.name}"
    if kind in ("classifier", "next_item", "question_answering"):
        task = "" if kind == "classifier" else f" --task {kind}"
        command = f"quorem finetune {Path(str(made.settings.get('pretrained'))).name} {path}{task}"
        command += f" --config config.yaml --out {made.name}"
    versions = made.environment.get("versions") or {}
    said = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"```sh\n{command}\n```\n\nconfig.yaml of the run has every setting." + (
        f" Versions: {said}." if said else ""
    )


def _limits_said(kind: str, made: Made, license: str | None) -> str:
    lines = [LIMITS[kind], "It has learned what stands in its data, with all that is wrong there."]
    if not made.result:
        lines.append("How good it is is not known.")
    if license is None:
        lines.append("No licence has been given for these weights: ask whoever has made them.")
    return "\n".join(f"- {line}" for line in lines)


def _shown(name: str, value: Any) -> str:
    if name in ("path", "test"):
        paths = value if isinstance(value, list) else [value]
        return " ".join(Path(str(each)).name for each in paths)
    return str(value)


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
