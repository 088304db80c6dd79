"""The original repository's interface: its hyperparameters, and what each is called here.

docs/original.md has the table of names and what differs from the original.
"""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quorem.config.finetuning import FinetuneConfig, LabelledDataSettings
from quorem.config.loading import leaves, load, override
from quorem.config.parsing import parse_yaml
from quorem.config.settings import PretrainConfig
from quorem.errors import UserError, did_you_mean
from quorem.finetuning.checkpoint import model_folder
from quorem.pretraining.pretrain import pretrain
from quorem.samples import write_reviews
from quorem.tasks import finetune
from quorem.training.run_folder import check_run_folder

logger = logging.getLogger(__name__)

PRETRAIN_DEFAULTS: dict[str, Any] = {
    "MAX_LEN": 256,
    "VOCAB_SIZE": 30000,
    "PRETRAIN_BATCH_SIZE": 8,
    "PRETRAIN_EPOCHS": 5,
    "G_LR": 0.0005,
    "D_LR": 0.0005,
    "SHARED_EMBEDDINGS": True,
    "G_EMBED_DIM": 64,
    "D_EMBED_DIM": 128,
    "ATTN_KEY_DIM": 64,
    "EMBED_TYPE": "default",
    "COMPOSITION_BUCKET_SIZE": 5,
    "G_NUM_HEAD": 1,
    "D_NUM_HEAD": 4,
    "G_FF_DIM": 256,
    "D_FF_DIM": 768,
    "G_NUM_LAYERS": 1,
    "D_NUM_LAYERS": 4,
}
FINETUNE_DEFAULTS: dict[str, Any] = {"MAX_LEN": 256, "FINETUNE_EPOCHS": 5, "FINETUNE_BATCH_SIZE": 8}

SETTINGS_OF: dict[str, tuple[str, ...]] = {
    "MAX_LEN": ("data.max_length",),
    "VOCAB_SIZE": ("model.vocab_size",),
    "PRETRAIN_BATCH_SIZE": ("train.batch_size",),
    "PRETRAIN_EPOCHS": ("train.epochs",),
    "G_LR": ("train.generator_learning_rate",),
    "D_LR": ("train.learning_rate",),
    "SHARED_EMBEDDINGS": ("model.shared_embeddings",),
    "G_EMBED_DIM": ("model.generator.hidden_size", "model.generator.embedding_size"),
    "D_EMBED_DIM": ("model.discriminator.hidden_size", "model.embedding_size"),
    "ATTN_KEY_DIM": ("model.generator.attention_head_size", "model.discriminator.attention_head_size"),
    "EMBED_TYPE": ("model.embedding.kind",),
    "COMPOSITION_BUCKET_SIZE": ("model.embedding.divisor",),
    "G_NUM_HEAD": ("model.generator.num_attention_heads",),
    "D_NUM_HEAD": ("model.discriminator.num_attention_heads",),
    "G_FF_DIM": ("model.generator.intermediate_size",),
    "D_FF_DIM": ("model.discriminator.intermediate_size",),
    "G_NUM_LAYERS": ("model.generator.num_hidden_layers",),
    "D_NUM_LAYERS": ("model.discriminator.num_hidden_layers",),
    "FINETUNE_EPOCHS": ("train.epochs",),
    "FINETUNE_BATCH_SIZE": ("train.batch_size",),
}
"""Every hyperparameter of the original, and the settings it sets here."""

EMBED_TYPES = {"default": "dense", "compositional": "qr"}
WORKING_DIR = "working_dir"
SAMPLE, SAMPLE_ROWS = "sample_reviews.csv", 4_000
"""What the scripts read without data of the user's: with the original's hyperparameters, minutes on two cores."""


def parse_hparams(words: Sequence[str]) -> dict[str, Any]:
    """The mapping behind --hparams, however the shell delivered it.

    Args:
        words: JSON or YAML in one word; the words a shell makes of it unquoted (quotes stripped, split at spaces, or
            expanded at commas); or the path of a JSON or YAML file.

    Raises:
        UserError: if it is no mapping.
    """
    text = " ".join(words).strip()
    if not text:
        return {}
    if len(words) == 1 and not text.startswith("{") and text.endswith((".json", ".yaml", ".yml")):
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--hparams {text}: cannot be read ({error})") from error
    elif not text.startswith("{"):
        text = "{" + (", ".join(words) if "," not in text else text) + "}"
    # As it stands first: a space after every colon is for {A:1}, and would change a text with a colon in it.
    for attempt in (text, re.sub(r"(\w):(?=\S)", r"\1: ", text)):
        try:
            found = parse_yaml(attempt)
        except ValueError:
            continue
        if isinstance(found, Mapping) and None not in found.values():
            return {str(name): value for name, value in found.items()}
    raise UserError(f"--hparams {text}: not a mapping of names to values: write '{{\"VOCAB_SIZE\": 60000}}'")


def settings(hparams: Mapping[str, Any], defaults: Mapping[str, Any], config: Any) -> list[str]:
    """Assignments for `quorem.config.loading.override` from the original's names, or from ours, dotted.

    Args:
        hparams: what the user gave.
        defaults: the original's hyperparameters and their defaults.
        config: settings whose dotted names are allowed too.

    Raises:
        UserError: for an unknown name, with the closest known one, or a value that makes no sense.
    """
    dotted = {name for name, _, _ in leaves(config)}
    for name in hparams:
        if name not in defaults and name not in dotted:
            known = dotted if "." in name else defaults
            raise UserError(f"--hparams: unknown hyperparameter {name}.{did_you_mean(name, known)}")
    values = dict(defaults) | {name: value for name, value in hparams.items() if name in defaults}
    found = ["train.optimizer=adamw"] if "G_LR" in values else []  # its rates are Adam's, for all weights
    if "EMBED_TYPE" in values:
        if values["EMBED_TYPE"] not in EMBED_TYPES:
            raise UserError(
                f"--hparams: EMBED_TYPE={values['EMBED_TYPE']!r}.{did_you_mean(str(values['EMBED_TYPE']), EMBED_TYPES)}"
            )
        if values["EMBED_TYPE"] == "compositional":
            found += ["model.embedding.operation=multiply", "model.embedding.assignment=frequency"]
        values["EMBED_TYPE"] = EMBED_TYPES[values["EMBED_TYPE"]]
        buckets = _positive("COMPOSITION_BUCKET_SIZE", values["COMPOSITION_BUCKET_SIZE"])
        # The original divides ids by VOCAB_SIZE // COMPOSITION_BUCKET_SIZE: so many buckets, each with a row.
        values["COMPOSITION_BUCKET_SIZE"] = max(1, _positive("VOCAB_SIZE", values["VOCAB_SIZE"]) // buckets)
    values |= {name: value for name, value in hparams.items() if name in dotted}
    return found + [
        _assignment(ours, value) for name, value in values.items() for ours in SETTINGS_OF.get(name, (name,))
    ]


def pretrain_original(
    *, raw_data_loc: str | None, col_name: str | None, working_dir: str | None, hparams: Sequence[str]
) -> dict[str, Any]:
    """`pretraining.py`: pre-train with the original's sizes into working_dir, on the built-in sample by default.

    Positions and initialisation are those of the preset `origin`, and words are separate tokens, as in the original.
    """
    folder = Path(working_dir or WORKING_DIR)
    check_run_folder(folder)
    given = parse_hparams(hparams)
    base = PretrainConfig()
    assignments = ["model.size=origin", "model.embedding.tier=0", *settings(given, PRETRAIN_DEFAULTS, base)]
    data = {"data.path": _data(raw_data_loc, folder), "data.text_column": col_name or "review"}
    config = override(base, [*assignments, *(_assignment(name, value) for name, value in data.items())])
    return pretrain(config, folder)


def finetune_original(*, raw_data_loc: str | None, working_dir: str | None, hparams: Sequence[str]) -> dict[str, Any]:
    """`FineTuning.py`: the original's two phases, from working_dir into working_dir/classifier.

    The text column is the one pre-trained on, the label column `sentiment`; data.text_column and data.label_column
    among the hparams change them.
    """
    folder = Path(working_dir or WORKING_DIR)
    model_folder(folder)
    given = parse_hparams(hparams)
    trained_on = load(PretrainConfig, folder / "config.yaml").data if (folder / "config.yaml").exists() else None
    column = (trained_on.text_column if trained_on else None) or "review"
    data = LabelledDataSettings(path=_data(raw_data_loc, folder), text_column=column, label_column="sentiment")
    base = FinetuneConfig(pretrained=str(folder), data=data)
    assignments = ["classifier.recipe=origin", "train.warmup=0", "train.schedule=constant"]
    config = override(base, [*assignments, *settings(given, FINETUNE_DEFAULTS, base)])
    return finetune(config, folder / "classifier")


def _data(raw_data_loc: str | None, folder: Path) -> str:
    """The file named, or the built-in sample beside the working directory."""
    if raw_data_loc:
        return raw_data_loc
    sample = folder.parent / SAMPLE
    logger.info("no --raw_data_loc: using the built-in synthetic sample, %s", sample)
    if not sample.exists():
        write_reviews(sample, rows=SAMPLE_ROWS)
    return str(sample)


def _assignment(name: str, value: Any) -> str:
    """`name=value` with the value in JSON, which `override` reads as YAML: a text stays what it is."""
    return f"{name}={json.dumps(value, ensure_ascii=False, default=str)}"


def _positive(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"--hparams: {name}={value!r}: a whole number above 0 is needed")
    return value
