"""What fine-tuning starts from and prediction uses: the models in folders."""

from pathlib import Path
from typing import Any

import torch

from quorem.config.loading import load
from quorem.config.settings import FinetuneConfig, PretrainConfig
from quorem.data.batches import WEIGHTS, step_seed
from quorem.errors import UserError, shown
from quorem.models.checkpoint_files import read_weights
from quorem.models.classifier import QuoremForSequenceClassification
from quorem.models.configuration import WINDOWS, QuoremConfig


def model_folder(pretrained: str | Path) -> Path:
    """The folder with the encoder to start from: a run's discriminator/ or model/, or a model folder itself.

    Raises:
        UserError: if there is none.
    """
    folder = Path(pretrained)
    for candidate in (folder / "discriminator", folder / "model", folder):
        if (candidate / "config.json").exists():
            return candidate
    if (folder / "config.yaml").exists():
        raise UserError(
            f"{folder}: this run is not finished, so it has no model yet: run the same command again to resume"
        )
    raise UserError(
        f"{folder}: no pre-trained model there (no discriminator/config.json): give a run of quorem pretrain"
    )


def reads_whole(config: FinetuneConfig) -> bool:
    """Whether the classifier is given whole documents: for their windows, or for their n-grams."""
    return config.data.truncation == WINDOWS or config.classifier.ngrams > 0


def build_classifier(
    config: FinetuneConfig, source: Path, names: list[str], *, keep: bool = False
) -> QuoremForSequenceClassification:
    """The classifier on the encoder of `source`; new weights where it has none, or everywhere for the control.

    Args:
        config: resolved settings.
        source: a model folder.
        names: the classes.
        keep: whether `source` is a classifier to go on with, its head included, the control's too.

    Raises:
        UserError: if the model in `source` cannot be used.
    """
    chosen = config.classifier
    torch.manual_seed(step_seed(config.train.seed, WEIGHTS))
    model = load_classifier_model(
        source,
        may_lack=() if keep else ("classifier.", "ngrams."),
        num_labels=len(names),
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
        classifier_head=chosen.head,
        classifier_pooling=chosen.pooling,
        classifier_layers=chosen.layers,
        hidden_dropout_prob=chosen.dropout,
        attention_probs_dropout_prob=chosen.attention_dropout,
        classifier_length=config.data.max_length if reads_whole(config) else 0,
        classifier_truncation=config.data.truncation,
        classifier_ngrams=chosen.ngrams,
        classifier_ngram_rows=chosen.ngram_rows if chosen.ngrams else 0,
    )
    if model.ngrams is not None:
        model.ngrams.requires_grad_(False)
    if chosen.from_scratch and not keep:
        model.apply(model._init_weights)  # parameters only: the order of ids is kept
    return model


def load_classifier_model(
    source: Path, *, may_lack: tuple[str, ...] = (), **changes: Any
) -> QuoremForSequenceClassification:
    """The classifier of a model folder.

    Args:
        source: with config.json and weights (quorem.models.checkpoint_files).
        may_lack: prefixes of weights that are new if they are not there; none may lack if empty.
        changes: to its config.

    Raises:
        UserError: if a file is damaged or does not fit, a weight is missing, or one is not finite.
    """
    try:
        architecture = QuoremConfig.from_pretrained(source, **changes)
        weights = read_weights(source, "classifier")
        model, found = QuoremForSequenceClassification.from_pretrained(
            None, config=architecture, state_dict=weights, output_loading_info=True
        )
    except UserError as error:
        raise error if str(source) in str(error) else UserError(f"{source}: {error}") from error
    except Exception as error:  # a damaged file can fail in any way
        raise UserError(
            f"{source}: config.json or model.safetensors is damaged, or they do not fit each other: train again or "
            f"copy them anew ({error})"
        ) from error
    missing = sorted(name for name in found["missing_keys"] if not name.startswith(may_lack))
    if missing:
        raise UserError(
            f"{source}: no classifier, for model.safetensors lacks {missing[0]}: give a run of quorem finetune"
            if not may_lack
            else f"{source}: no encoder to start from, for model.safetensors lacks {missing[0]}"
        )
    labels = [architecture.id2label.get(number) for number in range(architecture.num_labels)]
    if len(set(map(str, labels))) < len(labels) or not all(isinstance(label, str) for label in labels):
        raise UserError(
            f"{source}: config.json: id2label={shown(architecture.id2label)}: a name of its own for each of "
            f"{len(labels)} classes needed: copy it anew"
        )
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise UserError(
                f"{source}: model.safetensors has NaN or an infinite number in {name}, so its scores mean nothing: "
                "train again, with a smaller train.learning_rate"
            )
    return model


def size_of(pretrained: str) -> str:
    """The preset a pre-training run, or the run around a discriminator folder, was made with; else small."""
    folder = Path(pretrained)
    for run in (folder, folder.parent):
        if (run / "discriminator").exists() and (run / "config.yaml").exists():
            return load(PretrainConfig, run / "config.yaml").model.size
    return "small"
