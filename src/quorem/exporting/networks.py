"""The networks of a run or a model folder, read whole: what is exported."""

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from quorem.errors import UserError
from quorem.finetuning.checkpoint import model_folder
from quorem.models.checkpoint_files import check_finite, read_config, read_weights
from quorem.models.classifier import QuoremForSequenceClassification
from quorem.models.configuration import QuoremConfig
from quorem.models.modeling import QuoremForMaskedLM, QuoremForPreTraining, QuoremPreTrainedModel
from quorem.models.multiple_choice import QuoremForMultipleChoice
from quorem.models.next_item import QuoremForNextItem
from quorem.models.question_answering import QuoremForQuestionAnswering
from quorem.models.token_classifier import QuoremForTokenClassification
from quorem.tokenization import load_tokenizer

KINDS: dict[str, tuple[str, type[QuoremPreTrainedModel]]] = {
    "QuoremForPreTraining": ("discriminator", QuoremForPreTraining),
    "QuoremForMaskedLM": ("generator", QuoremForMaskedLM),
    "QuoremForSequenceClassification": ("classifier", QuoremForSequenceClassification),
    "QuoremForNextItem": ("next_item", QuoremForNextItem),
    "QuoremForTokenClassification": ("token_classifier", QuoremForTokenClassification),
    "QuoremForMultipleChoice": ("multiple_choice", QuoremForMultipleChoice),
    "QuoremForQuestionAnswering": ("question_answering", QuoremForQuestionAnswering),
}
"""By the architecture that a config.json names: what it is, as `read_weights` has it, and its class."""


@dataclass(frozen=True)
class Network:
    """A network with its tokenizer.

    Attributes:
        folder: where it is from.
        kind: of KINDS: discriminator, generator, classifier and so on.
        model: in evaluation mode, float32, on the CPU.
        tokenizer: its.
    """

    folder: Path
    kind: str
    model: QuoremPreTrainedModel
    tokenizer: PreTrainedTokenizerFast

    @property
    def config(self) -> QuoremConfig:
        """The architecture."""
        return self.model.config


def read_network(folder: str | Path) -> Network:
    """The network of a model folder or, of a run, the one that is used: its discriminator, or its fine-tuned model.

    Raises:
        UserError: if there is none, or a damaged one.
    """
    place = model_folder(folder)
    config = read_config(place)
    if hasattr(config, "auto_map"):  # of an export with code: what is made of it has none, or its own
        del config.auto_map
    named = (config.architectures or ["none"])[0]
    if named not in KINDS:
        raise UserError(
            f"{place}: config.json: architectures={named}: one of {', '.join(KINDS)} needed: give a run of quorem"
        )
    kind, network = KINDS[named]
    weights = read_weights(place, kind)
    try:
        model = network(config)
        model.load_state_dict(weights)
    except UserError as error:
        raise UserError(f"{place}: {error}") from error
    except Exception as error:  # a damaged file can fail in any way
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{place}: config.json and the weights do not fit each other ({reason}): copy both") from error
    check_finite(model, place)
    return Network(place, kind, model.eval(), load_tokenizer(place))
