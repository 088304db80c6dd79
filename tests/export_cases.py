"""What tests of exports share: tiny runs, made without training, and a Python in which quorem cannot be imported."""

import atexit
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers

from quorem import QuoremConfig, QuoremForMaskedLM, QuoremForPreTraining, QuoremForSequenceClassification
from quorem.models.multiple_choice import QuoremForMultipleChoice
from quorem.models.next_item import QuoremForNextItem
from quorem.models.question_answering import QuoremForQuestionAnswering
from quorem.models.token_classifier import QuoremForTokenClassification
from quorem.tokenization.files import fingerprint, save_tokenizer
from quorem.tokenization.special import SPECIAL_TOKENS
from quorem.tokenization.wrap import wrap

VOCAB_SIZE = 211
SIZES = {
    "vocab_size": VOCAB_SIZE, "embedding_size": 24, "hidden_size": 32, "num_attention_heads": 2,
    "intermediate_size": 48, "num_hidden_layers": 1, "max_position_embeddings": 40, "initializer_range": 0.1,
}  # fmt: skip
QR = {"kind": "qr", "own_rows": 30, "divisor": 14, "permuted": True, "operation": "multiply"}
NETWORKS = {
    "discriminator": QuoremForPreTraining,
    "generator": QuoremForMaskedLM,
    "classifier": QuoremForSequenceClassification,
    "next_item": QuoremForNextItem,
    "token_classifier": QuoremForTokenClassification,
    "multiple_choice": QuoremForMultipleChoice,
    "question_answering": QuoremForQuestionAnswering,
}
WITH_LABELS = ("classifier", "token_classifier")
LABELS = {0: "bad", 1: "good", 2: "so so"}
TEXTS = ["w7 w9 w200 unheard w5", "w11"]

OUTSIDE = """
import json, os, sys, traceback
reply = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what libraries print is no reply
sys.modules["quorem"] = None  # an import of it is an error
import torch, transformers
import transformers.generation, transformers.modeling_layers, transformers.modeling_utils
import transformers.models.auto.modeling_auto, transformers.models.auto.tokenization_auto
import transformers.models.electra.modeling_electra
from safetensors.torch import save_file

def answer(folder, auto, out, trusted, ids, mask, texts):
    auto = getattr(transformers, auto)
    model, info = auto.from_pretrained(folder, output_loading_info=True, trust_remote_code=trusted)
    assert not info["missing_keys"] and not info["mismatched_keys"], info
    ids, mask = torch.tensor(ids), torch.tensor(mask)
    if "MultipleChoice" in type(model).__name__:
        ids, mask = ids.unsqueeze(0), mask.unsqueeze(0)  # the rows are choices
    with torch.no_grad():
        found = model.eval()(input_ids=ids, attention_mask=mask)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(texts, padding=True, return_tensors="pt")
    tensors = {"output": found[0].contiguous(), "ids": encoded["input_ids"], "mask": encoded["attention_mask"]}
    save_file(tensors, out, {"type": type(model).__name__, "labels": json.dumps(model.config.id2label)})

for line in sys.stdin:
    child = os.fork()
    if not child:
        said, sys.stdin = "ok", open(os.devnull)  # nobody answers a question
        try:
            answer(**json.loads(line))
        except BaseException:
            said = traceback.format_exc()
        print(json.dumps(said), file=reply, flush=True)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        print(json.dumps(f"it died: {status}"), file=reply, flush=True)
"""
"""Answers each line in a process of its own, forked from one that has imported transformers, which takes seconds."""


def make_tokenizer():
    """Whole words w5 to w210, at the ids of their numbers."""
    names = [*SPECIAL_TOKENS, *(f"w{number}" for number in range(len(SPECIAL_TOKENS), VOCAB_SIZE))]
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return wrap(tokenizer, model_max_length=40)


def make_network(kind, **changes):
    """A network of random weights, none of them 0 or 1, in evaluation mode."""
    labels = {"id2label": LABELS, "label2id": {name: i for i, name in LABELS.items()}} if kind in WITH_LABELS else {}
    torch.manual_seed(1)
    model = NETWORKS[kind](QuoremConfig(**(SIZES | labels | changes))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        assignment = model.electra.embeddings.word_embeddings.assignment
        if assignment.rank is not None:
            assignment.set_order(torch.randperm(assignment.vocab_size))
    return model


def save_network(kind, folder, **changes):
    """The same in a model folder, with its tokenizer."""
    tokenizer = make_tokenizer()
    model = make_network(kind, tokenizer_fingerprint=fingerprint(tokenizer), **changes)
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return model


def make_batch(batch=3, time=17):
    """Ids and mask, int64 (batch, time), padded on the right."""
    lengths = torch.tensor([time, max(1, time - 5), 2, 1])[:batch].clamp(max=time)
    mask = (torch.arange(time) < lengths.unsqueeze(-1)).long()
    ids = torch.randint(5, VOCAB_SIZE, (batch, time), generator=torch.Generator().manual_seed(3))
    return ids * mask, mask


@cache
def outside() -> subprocess.Popen:
    """A Python in which quorem cannot be imported; it ends with this one."""
    home = tempfile.TemporaryDirectory()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HOME": home.name, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(
        [sys.executable, "-c", OUTSIDE],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=home.name, text=True,
    )  # fmt: skip

    def end():
        started.communicate()
        home.cleanup()

    atexit.register(end)
    return started


def loaded_outside(folder: Path, auto: str, tmp_path: Path, *, trusted=False):
    """What a Python without quorem gets of a folder.

    Returns:
        The first output of `make_batch`, ids and mask of TEXTS, the class's name and its labels.
    """
    ids, mask = (each.tolist() for each in make_batch())
    out, python = tmp_path / "outside.safetensors", outside()
    asked = {"folder": str(folder), "auto": auto, "out": str(out), "trusted": trusted, "texts": TEXTS}
    python.stdin.write(json.dumps(asked | {"ids": ids, "mask": mask}) + "\n")
    python.stdin.flush()
    said = json.loads(python.stdout.readline())
    assert said == "ok", said
    with safe_open(out, "pt") as file:
        facts = file.metadata()
    tensors = load_file(out)
    labels = {int(number): name for number, name in json.loads(facts["labels"]).items()}
    return tensors["output"], tensors["ids"], tensors["mask"], facts["type"], labels
