"""What tests of other libraries share: every head with its Auto class, tiny, with random weights, and its inputs."""

from dataclasses import dataclass, field
from typing import Any

import torch
from export_cases import LABELS, QR, SIZES, VOCAB_SIZE, make_tokenizer
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

import quorem
from quorem.tokenization.files import fingerprint, save_tokenizer

NAMED = {"id2label": LABELS, "label2id": {name: number for number, name in LABELS.items()}}
NEVER = {"never_targets": [0, 1, 2, 3, 4]}  # the special tokens
TREE = {"head": {"kind": "tree"}} | NEVER


@dataclass(frozen=True)
class Head:
    """A head: its class, the Auto class that loads it, how its config differs, and shapes of what it takes and gives.

    Attributes:
        output: the shape of what it gives for 3 rows of 17 tokens.
        labels: of them.
        changes: to its config.
        targets: what the loss is asked with: labels, but of question answering.
    """

    auto: Any
    model: type
    output: tuple[int, ...]
    labels: Any = None
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def targets(self) -> dict[str, Any]:
        return self.labels if isinstance(self.labels, dict) else {"labels": self.labels}


ANSWERS = {"start_positions": torch.tensor([2, 0, 1]), "end_positions": torch.tensor([5, 0, 2])}


def of_tokens(most):
    return torch.randint(0, most, (3, 17), generator=torch.Generator().manual_seed(5))


HEADS = {
    "encoder": Head(AutoModel, quorem.QuoremModel, (3, 17, 32)),
    "discriminator": Head(AutoModelForPreTraining, quorem.QuoremForPreTraining, (3, 17), of_tokens(2)),
    "generator": Head(
        AutoModelForMaskedLM, quorem.QuoremForMaskedLM, (3, 17, VOCAB_SIZE), of_tokens(VOCAB_SIZE - 5) + 5, NEVER
    ),
    "generator, tree": Head(
        AutoModelForMaskedLM, quorem.QuoremForMaskedLM, (3, 17, VOCAB_SIZE), of_tokens(VOCAB_SIZE - 5) + 5, TREE
    ),
    "next item": Head(
        AutoModelForCausalLM, quorem.QuoremForNextItem, (3, 17, VOCAB_SIZE), of_tokens(VOCAB_SIZE - 5) + 5,
        TREE | {"causal": True},
    ),
    "classifier": Head(
        AutoModelForSequenceClassification, quorem.QuoremForSequenceClassification, (3, 3), torch.tensor([0, 2, 1]),
        NAMED,
    ),
    "token classifier": Head(
        AutoModelForTokenClassification, quorem.QuoremForTokenClassification, (3, 17, 3), of_tokens(3), NAMED
    ),
    "multiple choice": Head(
        AutoModelForMultipleChoice, quorem.QuoremForMultipleChoice, (3, 2), torch.tensor([0, 1, 1])
    ),
    "question answering": Head(AutoModelForQuestionAnswering, quorem.QuoremForQuestionAnswering, (3, 17), ANSWERS),
    "question answering, hf": Head(
        AutoModelForQuestionAnswering, quorem.QuoremForQuestionAnswering, (3, 17), ANSWERS, {"classifier_head": "hf"}
    ),
}  # fmt: skip
"""One line for each head; the tests of Auto classes, torch.export and quantisation go over all of them."""
WITH_LOSS = [name for name, head in HEADS.items() if head.labels is not None]


def make(name, **changes):
    """A network of random weights in evaluation mode, with a compositional table unless `changes` say otherwise."""
    head = HEADS[name]
    torch.manual_seed(1)
    table = QR | ({"operation": "multiply"} if "generator" in name else {})
    model = head.model(
        quorem.QuoremConfig(**({"embedding": table, **SIZES, "num_hidden_layers": 2} | head.changes | changes))
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # so that no bias is 0 and no scale 1
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def save(name, folder, **changes):
    """The same in a model folder, with its tokenizer; the folder's path as text."""
    tokenizer = make_tokenizer()
    make(name, tokenizer_fingerprint=fingerprint(tokenizer), **changes).save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return str(folder)


def inputs(name, batch=3, time=17):
    """input_ids and attention_mask, int64, with padding on the right; of multiple choice two choices a row."""
    lengths = torch.tensor([time, max(3, time - 5), 3])[:batch].clamp(max=time)
    mask = (torch.arange(time) < lengths.unsqueeze(-1)).long()
    ids = torch.randint(5, VOCAB_SIZE, (batch, time), generator=torch.Generator().manual_seed(3)) * mask
    if name == "multiple choice":
        ids, mask = torch.stack([ids, (ids * 7 % 200 + 5) * mask], dim=1), torch.stack([mask, mask], dim=1)
    return {"input_ids": ids, "attention_mask": mask}
