"""quorem's models among those that transformers' Auto classes load."""

from transformers.models.auto.modeling_auto import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from quorem.models.classifier import QuoremForSequenceClassification
from quorem.models.configuration import QuoremConfig
from quorem.models.modeling import QuoremForMaskedLM, QuoremForPreTraining, QuoremModel
from quorem.models.multiple_choice import QuoremForMultipleChoice
from quorem.models.next_item import QuoremForNextItem
from quorem.models.question_answering import QuoremForQuestionAnswering
from quorem.models.token_classifier import QuoremForTokenClassification


def register() -> None:
    """Tell the Auto classes of them; again does no harm."""
    AutoModel.register(QuoremConfig, QuoremModel, exist_ok=True)
    AutoModelForCausalLM.register(QuoremConfig, QuoremForNextItem, exist_ok=True)
    AutoModelForMaskedLM.register(QuoremConfig, QuoremForMaskedLM, exist_ok=True)
    AutoModelForMultipleChoice.register(QuoremConfig, QuoremForMultipleChoice, exist_ok=True)
    AutoModelForPreTraining.register(QuoremConfig, QuoremForPreTraining, exist_ok=True)
    AutoModelForQuestionAnswering.register(QuoremConfig, QuoremForQuestionAnswering, exist_ok=True)
    AutoModelForSequenceClassification.register(QuoremConfig, QuoremForSequenceClassification, exist_ok=True)
    AutoModelForTokenClassification.register(QuoremConfig, QuoremForTokenClassification, exist_ok=True)
