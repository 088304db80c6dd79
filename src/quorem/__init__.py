"""quorem: ELECTRA pre-training for data with huge vocabularies.

Importing it registers its models with transformers' Auto classes, so that a run's folders load with from_pretrained.
"""

import os

# Idle OpenMP threads must sleep, not spin: with another process on a core, spinning makes a step up to 16 times slower.
# The runtime reads this once, when torch is first imported; a value the user has set is kept.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
)

from quorem.classifier import QuoremForSequenceClassification
from quorem.configuration import QuoremConfig
from quorem.errors import UserError
from quorem.modeling import QuoremForMaskedLM, QuoremForPreTraining, QuoremModel
from quorem.next_item import QuoremForNextItem

__version__ = "0.1.0"

AutoConfig.register("quorem", QuoremConfig, exist_ok=True)
AutoModel.register(QuoremConfig, QuoremModel, exist_ok=True)
AutoModelForCausalLM.register(QuoremConfig, QuoremForNextItem, exist_ok=True)
AutoModelForMaskedLM.register(QuoremConfig, QuoremForMaskedLM, exist_ok=True)
AutoModelForPreTraining.register(QuoremConfig, QuoremForPreTraining, exist_ok=True)
AutoModelForSequenceClassification.register(QuoremConfig, QuoremForSequenceClassification, exist_ok=True)

__all__ = [
    "QuoremConfig",
    "QuoremForMaskedLM",
    "QuoremForNextItem",
    "QuoremForPreTraining",
    "QuoremForSequenceClassification",
    "QuoremModel",
    "UserError",
]
