"""PEFT: adapters beside the attention's matrices are trained, and merged give the same."""

import pytest
import torch
from interop_cases import HEADS, inputs, make, save

peft = pytest.importorskip("peft", reason="needs quorem[interop]")
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT asks


def adapted(name, kind):
    """A network with adapters that are not 0, in evaluation mode."""
    config = peft.LoraConfig(task_type=kind, target_modules=["query", "value", "dense", "hidden"], r=4)
    model = peft.get_peft_model(make(name), config).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize(
    ("name", "kind"),
    [("classifier", "SEQ_CLS"), ("token classifier", "TOKEN_CLS"), ("encoder", "FEATURE_EXTRACTION"),
     ("generator, tree", None), ("question answering", "QUESTION_ANS")],
)  # fmt: skip
def test_lora_is_heard_trained_and_merged(name, kind):
    model, given = adapted(name, kind), inputs(name)
    found = model(**given)[0]
    difference = found - make(name)(**given)[0]
    assert difference[difference.isfinite()].abs().max() > 1e-2  # the adapters are heard
    loss = found.square().sum() if HEADS[name].labels is None else model(**given, **HEADS[name].targets).loss
    loss.backward()
    adapters = {key: parameter for key, parameter in model.named_parameters() if "lora_" in key}
    assert sum(".attention.self.query." in key for key in adapters) == 4  # two matrices in two layers
    for key, parameter in adapters.items():
        assert parameter.grad is not None, key
        assert parameter.grad.any(), key
    assert not any(parameter.requires_grad for key, parameter in model.named_parameters() if "word_embeddings" in key)
    with torch.no_grad():
        torch.testing.assert_close(model.merge_and_unload()(**given)[0], found, atol=1e-5, rtol=1e-4)


def test_an_adapter_is_saved_and_loaded_beside_the_folder_it_belongs_to(tmp_path):
    folder = save("classifier", tmp_path / "model")
    base = HEADS["classifier"].auto.from_pretrained(folder)
    model = peft.get_peft_model(base, peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"]))
    torch.nn.init.normal_(model.base_model.model.electra.encoder.layer[0].attention.self.query.lora_B["default"].weight)
    expected = model.eval()(**inputs("classifier")).logits
    model.save_pretrained(tmp_path / "adapter")
    again = peft.AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "adapter", num_labels=3).eval()
    torch.testing.assert_close(again(**inputs("classifier")).logits, expected)
