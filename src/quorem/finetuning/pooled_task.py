"""What tasks with one output for each text share: one pooled vector, and linear branches beside the encoder."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerFast

from quorem.data.documents import Document
from quorem.errors import UserError
from quorem.finetuning.linear_fit import Branch, install_branches
from quorem.finetuning.ngram_fit import NgramFeatures
from quorem.finetuning.rows import Examples, check_pairs, encode_documents, pair_document, tell_unknown
from quorem.finetuning.sif_fit import SifFeatures
from quorem.finetuning.targets import Target
from quorem.finetuning.task import Again, Begun
from quorem.finetuning.text_task import TextTask
from quorem.models.classifier import QuoremForSequenceClassification
from quorem.models.configuration import WINDOWS
from quorem.tokenization import Unknown
from quorem.training import processes
from quorem.training.run_folder import Run


class PooledTask(TextTask):
    """A task whose model is QuoremForSequenceClassification."""

    model_class, network, new = QuoremForSequenceClassification, "classifier", ("classifier.", "ngrams.", "sif.")
    text_columns = ("text_pair_column",)

    @abstractmethod
    def target(self, begun: Begun) -> Target:
        """What linear branches are fitted to: the training rows' labels."""

    def resolve(self, config: Any) -> Any:
        """As in `TextTask`."""
        check_pairs(config.data)
        for name, given in (("ngrams", config.classifier.ngrams), ("sif", config.classifier.sif)):
            if config.data.text_pair_column is not None and given:
                raise UserError(f"classifier.{name}: is for single texts: leave it or data.text_pair_column out")
        return super().resolve(config)

    def encoded(
        self, config: Any, tokenizer: PreTrainedTokenizerFast, documents: Sequence[Document], source: str
    ) -> Examples:
        """Documents as the model reads them; warns of what the tokenizer does not know."""
        unknown = Unknown()
        whole = _reads_whole(config)
        examples = encode_documents(tokenizer, documents, config.data, unknown=unknown, whole=whole)
        tell_unknown(source, unknown)
        return examples

    def encode(
        self, documents: Sequence[Document], tokenizer: PreTrainedTokenizerFast, data: Any, model: Any, unknown: Unknown
    ) -> Examples:
        """As in `TextTask`."""
        return encode_documents(tokenizer, documents, data, unknown=unknown, whole=model.reads_whole)

    def changes(self, config: Any, facts: dict[str, Any]) -> dict[str, Any]:
        """How texts are cut and pooled, and the linear branches."""
        chosen = config.classifier
        return {
            "classifier_head": chosen.head,
            "classifier_pooling": chosen.pooling,
            "classifier_layers": chosen.layers,
            "classifier_length": config.data.max_length if _reads_whole(config) else 0,
            "classifier_truncation": config.data.truncation,
            "classifier_ngrams": chosen.ngrams,
            "classifier_ngram_rows": chosen.ngram_rows if chosen.ngrams else 0,
            "classifier_sif": chosen.sif,
        }

    def build(self, config: Any, source: Path, facts: dict[str, Any], *, keep: bool = False) -> Any:
        """As in `TextTask`; linear branches have no gradients, for they are fitted."""
        model = super().build(config, source, facts, keep=keep)
        for branch in model.branches:
            branch.requires_grad_(False)
        return model

    def prepare(self, begun: Begun, run: Run, again: Again) -> Begun:
        """Fit linear branches, beside which the head begins at 0."""
        training, branches = begun.training, _branches(begun.model, begun.config.classifier.ngram_penalty)
        if not branches:
            return begun
        with processes.main_process_first():
            found = install_branches(branches, training.rows, self.target(begun), folder=run.folder / "state")
        if not self.has_phases(begun.config):  # training begins with what the branches say, and no noise
            nn.init.zeros_(begun.model.classifier.out_proj.weight)
            nn.init.zeros_(begun.model.classifier.out_proj.bias)
        return replace(begun, training=replace(training, branch_scores=found))

    def document(self, value: Any) -> Document:
        """A text, or a pair of texts."""
        return pair_document(value)


def _branches(model: QuoremForSequenceClassification, ngram_penalty: float | None) -> list[Branch]:
    """The linear branches to fit."""
    found: list[Branch] = []
    if model.ngrams is not None:
        found.append(NgramFeatures(model.ngrams, penalty=ngram_penalty))
    if model.sif is not None:
        found.append(SifFeatures(model.sif, model.electra.get_input_embeddings()))
    return found


def _reads_whole(config: Any) -> bool:
    """Whether the model is given whole documents: for their windows, or for a linear branch."""
    return config.data.truncation == WINDOWS or config.classifier.ngrams > 0 or bool(config.classifier.sif)
