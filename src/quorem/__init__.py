"""quorem: ELECTRA pre-training for data with huge vocabularies.

Importing it loads neither torch nor transformers; what is asked for is imported then. It registers its models with
transformers' Auto classes, before or after these are imported, so that a run's folders load with from_pretrained.
"""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from wrapt import when_imported

from quorem.errors import UserError

if TYPE_CHECKING:
    from quorem.api import compress, embedding, export, finetune, pretrain, softmax
    from quorem.loaded import Classifier, Encoder, Finetuned, NextItem, load
    from quorem.models.classifier import QuoremForSequenceClassification
    from quorem.models.configuration import QuoremConfig
    from quorem.models.modeling import QuoremForMaskedLM, QuoremForPreTraining, QuoremModel
    from quorem.models.multiple_choice import QuoremForMultipleChoice
    from quorem.models.next_item import QuoremForNextItem
    from quorem.models.question_answering import QuoremForQuestionAnswering
    from quorem.models.token_classifier import QuoremForTokenClassification

# Idle OpenMP threads must sleep, not spin: with another process on a core, spinning makes a step up to 16 times slower.
# The runtime reads this once, when torch is first imported; a value the user has set is kept.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

PLACES = {
    **dict.fromkeys(("Classifier", "Encoder", "Finetuned", "NextItem", "load"), "quorem.loaded"),
    **dict.fromkeys(("compress", "embedding", "export", "finetune", "pretrain", "softmax"), "quorem.api"),
    "QuoremConfig": "quorem.models.configuration",
    "QuoremForMultipleChoice": "quorem.models.multiple_choice",
    "QuoremForNextItem": "quorem.models.next_item",
    "QuoremForQuestionAnswering": "quorem.models.question_answering",
    "QuoremForSequenceClassification": "quorem.models.classifier",
    "QuoremForTokenClassification": "quorem.models.token_classifier",
    **dict.fromkeys(("QuoremForMaskedLM", "QuoremForPreTraining", "QuoremModel"), "quorem.models.modeling"),
}
"""Where each public name is."""

__all__ = [
    "Classifier",
    "Encoder",
    "Finetuned",
    "NextItem",
    "QuoremConfig",
    "QuoremForMaskedLM",
    "QuoremForMultipleChoice",
    "QuoremForNextItem",
    "QuoremForPreTraining",
    "QuoremForQuestionAnswering",
    "QuoremForSequenceClassification",
    "QuoremForTokenClassification",
    "QuoremModel",
    "UserError",
    "compress",
    "embedding",
    "export",
    "finetune",
    "load",
    "pretrain",
    "softmax",
]


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module 'quorem' has no attribute {name!r}")
    return getattr(import_module(PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *PLACES})


@when_imported("transformers.models.auto.configuration_auto")
def _register_config(auto: Any) -> None:
    from quorem.models.configuration import QuoremConfig

    auto.AutoConfig.register("quorem", QuoremConfig, exist_ok=True)


AUTO = "transformers.models.auto.modeling_auto"
IMPORT_EACH_OTHER = (
    AUTO,
    "transformers.modeling_layers",
    "transformers.modeling_utils",
    "quorem.models.layers",
    "quorem.models.modeling",
    "quorem.models.classifier",
    "quorem.models.multiple_choice",
    "quorem.models.next_item",
    "quorem.models.question_answering",
    "quorem.models.token_classifier",
    "quorem.auto",
)


def _register_models(imported: Any) -> None:
    """Once the Auto classes are there, and no other of these modules is half imported: the last calls this again."""
    others = [sys.modules[name] for name in IMPORT_EACH_OTHER if sys.modules.get(name) not in (None, imported)]
    if AUTO in sys.modules and not any(getattr(each.__spec__, "_initializing", False) for each in others):
        import_module("quorem.auto").register()


for _name in IMPORT_EACH_OTHER[:-1]:
    when_imported(_name)(_register_models)
