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
    from quorem.api import Classifier, Encoder, embedding, finetune, load, pretrain, softmax
    from quorem.classifier import QuoremForSequenceClassification
    from quorem.configuration import QuoremConfig
    from quorem.modeling import QuoremForMaskedLM, QuoremForPreTraining, QuoremModel
    from quorem.next_item import QuoremForNextItem

# Idle OpenMP threads must sleep, not spin: with another process on a core, spinning makes a step up to 16 times slower.
# The runtime reads this once, when torch is first imported; a value the user has set is kept.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

PLACES = {
    **dict.fromkeys(("Classifier", "Encoder", "embedding", "finetune", "load", "pretrain", "softmax"), "quorem.api"),
    "QuoremConfig": "quorem.configuration",
    "QuoremForNextItem": "quorem.next_item",
    "QuoremForSequenceClassification": "quorem.classifier",
    **dict.fromkeys(("QuoremForMaskedLM", "QuoremForPreTraining", "QuoremModel"), "quorem.modeling"),
}
"""Where each public name is."""

__all__ = [
    "Classifier",
    "Encoder",
    "QuoremConfig",
    "QuoremForMaskedLM",
    "QuoremForNextItem",
    "QuoremForPreTraining",
    "QuoremForSequenceClassification",
    "QuoremModel",
    "UserError",
    "embedding",
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
    from quorem.configuration import QuoremConfig

    auto.AutoConfig.register("quorem", QuoremConfig, exist_ok=True)


@when_imported("transformers.models.auto.modeling_auto")
@when_imported("quorem.modeling")
@when_imported("quorem.classifier")
@when_imported("quorem.next_item")
def _register_models(_: Any) -> None:
    """Once all are imported, in whichever order they import each other."""
    last = {
        "modeling": "QuoremForPreTraining", "classifier": "QuoremForSequenceClassification",
        "next_item": "QuoremForNextItem", "auto": "register",
    }  # fmt: skip
    for name, made in last.items():
        module = sys.modules.get(f"quorem.{name}")
        if module is not None and not hasattr(module, made):  # it is being imported: this is called again then
            return
    import_module("quorem.auto").register()
