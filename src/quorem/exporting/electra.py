"""Plain ELECTRA: folders that transformers loads without quorem, with the same outputs.

The token table becomes a dense one, V x D numbers: what made it small does not live on. Nothing else changes, so what
transformers' ELECTRA does not have (positions other than absolute, other softmaxes, n-grams, windows) is refused.

A padded row's outputs are the same where padding is on the right, as the tokenizer puts it: transformers counts
absolute positions from the first column, quorem from the first real token.
"""

import logging
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import ElectraConfig

from quorem.embeddings import TokenEmbedding
from quorem.errors import UserError
from quorem.exporting.networks import Network, read_network
from quorem.heads import FullHead
from quorem.models.checkpoint_files import TABLE, TIED
from quorem.tokenization.files import save_tokenizer

logger = logging.getLogger(__name__)

ARCHITECTURES = {
    "discriminator": "ElectraForPreTraining",
    "generator": "ElectraForMaskedLM",
    "classifier": "ElectraForSequenceClassification",
    "next_item": "ElectraForMaskedLM",
    "token_classifier": "ElectraForTokenClassification",
    "multiple_choice": "ElectraForMultipleChoice",
    "question_answering": "ElectraForQuestionAnswering",
}
SAME = (
    "vocab_size", "embedding_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings", "type_vocab_size",
    "initializer_range", "layer_norm_eps", "pad_token_id", "classifier_dropout",
)  # fmt: skip
"""Settings that both configs have."""
WITH_SOFTMAX, WITH_LABELS = ("generator", "next_item"), ("classifier", "token_classifier")
ROWS_AT_ONCE = 2**16  # of a table that is made dense
OTHER_FORMATS = "or export with --format onnx or remote-code, which have it"
REMOTE_CODE = "or export with --format remote-code, which has it"


def export_electra(run: Path, folder: Path) -> list[str]:
    """Fill a folder with plain ELECTRA: discriminator/ and generator/ of a pre-training run, else one model itself.

    Args:
        run: a run, or a model folder.
        folder: exists and is empty.

    Returns:
        What was written, and what was not and why, a line each.

    Raises:
        UserError: if transformers' ELECTRA cannot be what the network is.
    """
    if not (run / "discriminator").is_dir():
        return [_write(read_network(run), folder)]
    lines = [_write(read_network(run / "discriminator"), folder / "discriminator")]
    if (run / "generator").is_dir():
        try:
            lines.append(_write(read_network(run / "generator"), folder / "generator"))
        except UserError as why:  # it is not what is used: the discriminator is worth having without it
            lines.append(f"generator: not written, {why}")
    return lines


def check_plain(network: Network) -> None:
    """Accept a network that transformers' ELECTRA can be.

    Raises:
        UserError: naming the setting that it cannot, and what can.
    """
    config, place = network.config, network.folder
    if config.positions != "absolute":
        raise UserError(
            f"{place}: positions={config.positions}, and transformers' ELECTRA has absolute ones only: pre-train with "
            f"model.positions=absolute, {OTHER_FORMATS}"
        )
    if config.causal:
        raise UserError(
            f"{place}: causal attention, and transformers' ELECTRA has none: fine-tune with "
            f"next_item.attention=masked, {OTHER_FORMATS}"
        )
    if config.num_attention_heads * config.attention_head_size != config.hidden_size:
        whose = "generator" if network.kind == "generator" else "discriminator"
        raise UserError(
            f"{place}: {config.num_attention_heads} heads of {config.attention_head_size}, and those of transformers' "
            f"ELECTRA are hidden_size ({config.hidden_size}) wide in all: pre-train with such a "
            f"model.{whose}.attention_head_size, {OTHER_FORMATS}"
        )
    if network.kind == "classifier":
        _check_classifier(network)
    elif network.kind == "question_answering":
        if config.classifier_head != "hf":
            raise UserError(
                f"{place}: classifier.head={config.classifier_head}, and transformers' ElectraForQuestionAnswering has "
                f"hf only: fine-tune with classifier.head=hf, {OTHER_FORMATS}"
            )
    elif network.kind in WITH_SOFTMAX and type(network.model.generator_lm_head) is not FullHead:
        key = "next_item.head" if network.kind == "next_item" else "model.head.kind"
        raise UserError(
            f"{place}: its softmax is of kind {(config.head or {})['kind']}, and transformers' ElectraForMaskedLM has "
            f"the full one only: train with {key}=full, {OTHER_FORMATS}"
        )


def dense_table(table: TokenEmbedding) -> Tensor:
    """All vectors (V, D) of a token table; beside them little memory is taken."""
    dense = torch.empty(table.num_embeddings, table.dim)
    with torch.no_grad():
        for start in range(0, len(dense), ROWS_AT_ONCE):
            stop = min(start + ROWS_AT_ONCE, len(dense))
            dense[start:stop] = table.rows(start, stop)
    return dense


def plain_weights(network: Network) -> dict[str, Tensor]:
    """Its weights by transformers' names; the table that a softmax is tied to stands there once."""
    found = network.model.state_dict()
    kept = {name: value.contiguous() for name, value in found.items() if not name.startswith(TABLE) and name != TIED}
    return {f"{TABLE}weight": dense_table(network.model.electra.embeddings.word_embeddings), **kept}


def plain_config(network: Network) -> ElectraConfig:
    """Its architecture as transformers' config."""
    config = network.config
    labels = {"id2label": config.id2label, "label2id": config.label2id} if network.kind in WITH_LABELS else {}
    if config.problem_type is not None:
        labels["problem_type"] = config.problem_type
    if config.problem_type == "regression":
        labels |= {"target_mean": config.target_mean, "target_std": config.target_std}
    same = {name: getattr(config, name) for name in SAME}
    return ElectraConfig(**same, **labels, architectures=[ARCHITECTURES[network.kind]], dtype="float32")


def _write(network: Network, folder: Path) -> str:
    check_plain(network)
    folder.mkdir(exist_ok=True)
    config, weights = plain_config(network), plain_weights(network)
    config.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    save_tokenizer(network.tokenizer, folder)
    table, size = weights[f"{TABLE}weight"], (folder / "model.safetensors").stat().st_size
    return (
        f"{network.kind}: {config.architectures[0]}, {size / 1e6:,.1f} MB, of which the dense table of "
        f"{len(table):,} x {table.shape[1]} is {table.nbytes / 1e6:,.1f} MB"
    )


def _check_classifier(network: Network) -> None:
    config = network.config
    truncation = config.classifier_truncation if config.classifier_length else "head"
    sif = str(config.classifier_sif).lower()
    wanted = (
        ("classifier.ngrams", config.classifier_ngrams, 0, "0 (no n-grams)", REMOTE_CODE),
        ("classifier.sif", sif, "false", "false (no mean of vectors)", REMOTE_CODE),
        ("data.truncation", truncation, "head", "head (no windows)", REMOTE_CODE),
        ("classifier.head", config.classifier_head, "hf", "hf", OTHER_FORMATS),
        ("classifier.pooling", config.classifier_pooling, "cls", "cls", OTHER_FORMATS),
        ("classifier.layers", config.classifier_layers, "last", "last", OTHER_FORMATS),
    )
    for key, value, needed, said, otherwise in wanted:
        if value != needed:
            raise UserError(
                f"{network.folder}: {key}={value}, and transformers' ElectraForSequenceClassification has {said} only: "
                f"fine-tune with {key}={needed}, {otherwise}"
            )
