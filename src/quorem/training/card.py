"""A model card: README.md beside a model, from what its run has written. The same folder gives the same card.

Every run writes it into its model folders when it ends. Metrics stand in the card's metadata (model-index) as
result.json has them, and in a table beside what they are held against. Of paths only the last name is told.

The last line of a card is a comment with a hash of the text above it. A card whose text was changed has another hash:
it belongs to whoever changed it, and is never written again. Nor is a README.md without that line.
"""

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from quorem.errors import UserError
from quorem.files import write_text
from quorem.training.run_folder import COMPRESSED, NETWORKS, README, Run, places_around, read_settings

logger = logging.getLogger(__name__)

PLACES = (*NETWORKS, "best/discriminator", "best/generator")
MARK = "<!-- Written by quorem ({}). It is written again while its text is as it was; change it, and it is kept. -->\n"
MARKED = re.compile(r"(.*\n)" + re.escape(MARK).replace(r"\{\}", "([0-9a-f]{16})"), re.DOTALL)
LICENSE = re.compile(r"\A---\n(?:[^\n]*\n)*?license: ([^\n]+)\n")
KINDS = {
    "QuoremForPreTraining": "discriminator", "ElectraForPreTraining": "discriminator",
    "QuoremForMaskedLM": "generator", "ElectraForMaskedLM": "generator",
    "QuoremForSequenceClassification": "classifier", "ElectraForSequenceClassification": "classifier",
    "QuoremForNextItem": "next_item", "QuoremForMultipleChoice": "multiple_choice",
    "ElectraForMultipleChoice": "multiple_choice",
    "QuoremForTokenClassification": "token_classifier", "ElectraForTokenClassification": "token_classifier",
    "QuoremForQuestionAnswering": "question_answering", "ElectraForQuestionAnswering": "question_answering",
}  # fmt: skip
BY_PROBLEM = {"multi_label_classification": "multi_label", "regression": "regression"}  # of config.json's problem_type
TITLES = {
    "discriminator": "an ELECTRA discriminator: of each token it says whether it was replaced",
    "generator": "the generator of an ELECTRA pre-training: it fills in masked tokens",
    "classifier": "a text classifier on an ELECTRA encoder",
    "multi_label": "a text classifier on an ELECTRA encoder: a text may have any number of labels",
    "regression": "an ELECTRA encoder that says a number for each text",
    "token_classifier": "a tagger on an ELECTRA encoder: it says a tag for each word",
    "multiple_choice": "an ELECTRA encoder that chooses one of several continuations of a text",
    "next_item": "a recommender: of a row of items it says which comes next",
    "question_answering": "a model that finds the answer to a question in a text, on an ELECTRA encoder",
}
PIPELINES = {
    "generator": "fill-mask", "classifier": "text-classification", "multi_label": "text-classification",
    "regression": "text-classification", "token_classifier": "token-classification",
    "multiple_choice": "multiple-choice", "question_answering": "question-answering",
}  # fmt: skip
AGAINST = {
    "mlm_loss": "unigram_entropy",
    "rtd_loss": "base_rate_entropy",
    **dict.fromkeys(
        (
            "rtd_auc", "mlm_accuracy", "share_replaced", "accuracy", "macro_f1", "f1", "precision", "recall",
            "micro_f1", "exact_match", "pearson", "spearman", "mae", "rmse", "loss",
        )
    ),
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
HARDER = "It was judged on held-out rows of the data it learned from; other data can be harder."
LIMITS = {
    "discriminator": "Its scores are of tokens a small generator put in; they say nothing of texts by other means.",
    "generator": "It is small on purpose, and of use in pre-training; the discriminator is the better encoder.",
    "classifier": HARDER,
    "multi_label": HARDER,
    "regression": HARDER,
    "token_classifier": HARDER,
    "multiple_choice": HARDER,
    "next_item": "It knows the items of its vocabulary only, and ranks them by rows like those it has learned from.",
    "question_answering": "An answer is a span of the text as it is written; it is not made sure that it is right.",
}
USE = {
    "quorem": 'import quorem  # installed from its sources: pip install .\n\nmodel = quorem.load("{folder}")',
    "electra": "from transformers import {auto}, AutoTokenizer\n\n"
    'model = {auto}.from_pretrained("{folder}")\n'
    'tokenizer = AutoTokenizer.from_pretrained("{folder}")',
    "remote-code": "from transformers import {auto}, AutoTokenizer\n\n"
    'model = {auto}.from_pretrained("{folder}", trust_remote_code=True)  # runs its code: read it\n'
    'tokenizer = AutoTokenizer.from_pretrained("{folder}")',
    "onnx": "import onnxruntime\nfrom transformers import AutoTokenizer\n\n"
    'session = onnxruntime.InferenceSession("{folder}/model.onnx")\n'
    'tokenizer = AutoTokenizer.from_pretrained("{folder}")\n'
    'encoded = tokenizer({asked}, padding=True, return_token_type_ids=True, return_tensors="np")\n'
    "outputs = session.run(None, {{each.name: encoded[each.name]{rows} for each in session.get_inputs()}})",
}
ASKED = {
    "question_answering": '["a question"], ["a text that answers it"]',
    "multiple_choice": '["a text", "a text"], ["one choice", "another"]',
}
"""What a tokenizer is given; of other kinds a text."""
AUTO = {
    "discriminator": "AutoModelForPreTraining", "generator": "AutoModelForMaskedLM",
    "classifier": "AutoModelForSequenceClassification", "multi_label": "AutoModelForSequenceClassification",
    "regression": "AutoModelForSequenceClassification", "token_classifier": "AutoModelForTokenClassification",
    "multiple_choice": "AutoModelForMultipleChoice", "next_item": "AutoModelForCausalLM",
    "question_answering": "AutoModelForQuestionAnswering",
}  # fmt: skip
AUTO_OF_PLAIN = AUTO | {"next_item": "AutoModelForMaskedLM"}  # transformers' ELECTRA


@dataclass(frozen=True)
class Made:
    """What is known of how a model was made; empty where it has no run around it."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    compressed: Mapping[str, Any] = field(default_factory=dict)  # what quorem compress has written of itself


def write_cards(run: str | Path, *, license: str | None = None) -> list[Path]:
    """Write README.md into every model folder of a run, or into a model folder; what others have written is kept.

    Args:
        run: a run, or a model folder.
        license: of the weights, by the hub's name for it; None for what the card there says. The card says so where
            there is none.

    Returns:
        The files.

    Raises:
        UserError: if there is no model, or every one has a README.md that is not quorem's, or was changed.
    """
    folder = Path(run)
    models = [folder, *(folder / name for name in PLACES)]
    models = [place for place in models if (place / "config.json").is_file()]
    if not models:
        raise UserError(f"{folder}: has no model (no config.json): give a finished run or a model folder")
    ours = [place for place in models if is_ours(place / README)]
    if not ours:
        raise UserError(
            f"{models[0] / README}: was changed, or is not of quorem, and is kept: delete it to have it written anew"
        )
    for place in ours:
        _write(place, made_by(place), license)
    return [place / README for place in ours]


def write_cards_of(run: Run, result: Mapping[str, Any]) -> None:
    """Write README.md into the model folders of a run that ends with `result`; a card never costs a run.

    Args:
        run: its models are there, its result.json is not.
        result: what that will hold.
    """
    if not run.writes:
        return
    try:
        environment = run.folder / "environment.json"
        known = read_settings(environment) if environment.is_file() else {}
        made = Made(run.folder.resolve().name, run.config, result, known)
        for place in (run.folder / name for name in PLACES):
            if (place / "config.json").is_file() and is_ours(place / README):
                _write(place, made, None)
    except Exception as error:  # whatever it is, hours of training are worth more than a page
        logger.warning("%s: no model card (%s): write it with quorem card %s", run.folder, error, run.folder)


def write_new_cards(folder: Path, made: Made, *, format: str = "quorem", license: str | None = None) -> None:
    """Write README.md into a new folder and the folders in it, wherever there is a model; all else as `model_card`."""
    for place in (folder, *folder.iterdir()):
        if (place / "config.json").is_file():
            text = model_card(place, made=made, format=format, license=license)
            (place / README).write_text(text, encoding="utf-8")


def is_ours(path: Path) -> bool:
    """Whether a README.md is missing, or as quorem has written it."""
    if not path.exists():
        return True
    found = MARKED.fullmatch(path.read_text(encoding="utf-8", errors="replace"))
    return found is not None and _hash(found[1]) == found[2]


def _write(place: Path, made: Made, license: str | None) -> None:
    path = place / README
    if license is None and path.exists() and (said := LICENSE.match(path.read_text(encoding="utf-8"))):
        license = said[1]
    write_text(path, model_card(place, made=made, license=license))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def made_by(folder: str | Path) -> Made:
    """The run around a model folder, or a run itself; a config.yaml that is no run's tells nothing."""
    places = places_around(folder)
    for run in places:
        if settings := _settings_of_run(run / "config.yaml"):
            files = [run / name for name in ("result.json", "environment.json", COMPRESSED)]
            found = [read_settings(file) if file.is_file() else {} for file in files]
            return Made(run.name, settings, *found)
    return Made(places[0].name)


def _settings_of_run(path: Path) -> dict[str, Any]:
    """What a config.yaml of quorem says; nothing of one that is missing, or that another program has put there."""
    if not path.is_file():
        return {}
    try:
        found = read_settings(path)
    except UserError:
        found = {}
    if isinstance(found.get("data"), dict):
        return found
    logger.warning("%s: does not hold the settings of a run of quorem, so the model card says nothing of it", path)
    return {}


def model_card(folder: Path, *, made: Made, format: str = "quorem", license: str | None = None) -> str:
    """The text of a model folder's README.md.

    Args:
        folder: with config.json.
        made: how the model was made.
        format: quorem, or the one it is exported in.
        license: of the weights.

    Raises:
        UserError: if config.json names another network.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = _kind(folder, config, made)
    auto = (AUTO_OF_PLAIN if format == "electra" else AUTO)[kind]
    asked, rows = ASKED.get(kind, '["a text"]'), "[None]" if kind == "multiple_choice" else ""
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
        "## Use", f"```python\n{USE[format].format(auto=auto, folder='FOLDER', asked=asked, rows=rows)}\n```",
        "## Results", _results_said(kind, made),
        "## Size", _sizes_said(config, made, format),
        "## Data", _data_said(made),
        "## How it was made", _commands_said(made),
        "## Limits", _limits_said(kind, made, license),
    ]  # fmt: skip
    text = str(ModelCard("\n\n".join(parts) + "\n"))
    return text + MARK.format(_hash(text))


def _kind(folder: Path, config: Mapping[str, Any], made: Made) -> str:
    """What a network is, a key of TITLES."""
    named = (config.get("architectures") or ["none"])[0]
    if named not in KINDS:
        raise UserError(f"{folder}: config.json: architectures={named}: is no network of quorem: give a run of quorem")
    kind = KINDS[named]
    if kind == "generator" and made.settings.get("task") == "next_item":  # transformers has one class for both
        return "next_item"
    return BY_PROBLEM.get(config.get("problem_type") or "", kind) if kind == "classifier" else kind


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
    titles, lines = [rows, "this model", "held against", *baselines], list[str]()
    for name, other in AGAINST.items():
        if isinstance(result.get(name), int | float):
            beside = f"{other} {_number(result[other])}" if other and other in result else _majority(name, result)
            counted = [_number(found.get(name)) for found in baselines.values()]
            lines.append(f"| {' | '.join([name, _number(result[name]), beside, *counted])} |")
    table = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|", *lines, ""] if lines else []
    return "\n".join([*table, str(made.result.get("verdict", ""))]).rstrip()


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


def _commands_said(made: Made) -> str:
    if not made.settings:
        return "No config.yaml of a run was beside the model."
    path, name = _shown("path", (made.settings.get("data") or {}).get("path")), made.compressed.get("from", made.name)
    command = f"quorem pretrain {path} --config config.yaml --out {name}"
    if "pretrained" in made.settings:
        task = made.settings.get("task", "classification")
        task = "" if task == "classification" else f" --task {task}"
        command = f"quorem finetune {Path(str(made.settings.get('pretrained'))).name} {path}{task}"
        command += f" --config config.yaml --out {name}"
    if made.compressed:
        command += f"\nquorem compress {name} {made.compressed.get('asked')} --out {made.name}"
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
