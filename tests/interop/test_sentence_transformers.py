"""sentence-transformers: a model folder is a sentence encoder, pooled as quorem does it or over the last layer."""

import pytest
import torch
from export_cases import TEXTS
from interop_cases import HEADS, save
from transformers import AutoTokenizer

import quorem

library = pytest.importorskip("sentence_transformers", reason="needs quorem[interop]")


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_all_layers_pooled_equal_quorem_own_vectors(tmp_path):
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer, WeightedLayerPooling

    folder = save("discriminator", tmp_path / "model")
    encoder = Transformer(folder, config_kwargs={"output_hidden_states": True})
    width, layers = encoder.get_embedding_dimension(), encoder.model.config.num_hidden_layers
    mean_of_layers = WeightedLayerPooling(width, num_hidden_layers=layers, layer_start=1)
    model = library.SentenceTransformer(modules=[encoder, mean_of_layers, Pooling(width)], device="cpu")
    expected = quorem.load(folder).encode(TEXTS, pooling="mean")
    close(model.encode(TEXTS, convert_to_tensor=True), expected)
    model.save(str(tmp_path / "saved"))
    again = library.SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    close(again.encode(TEXTS, convert_to_tensor=True), expected)


@torch.no_grad()
def test_a_folder_by_itself_is_the_mean_over_the_last_layer(tmp_path):
    folder = save("discriminator", tmp_path)
    found = library.SentenceTransformer(folder, device="cpu").encode(TEXTS[1:], convert_to_tensor=True)
    encoded = AutoTokenizer.from_pretrained(folder)(TEXTS[1:], return_tensors="pt")
    expected = HEADS["encoder"].auto.from_pretrained(folder).eval()(**encoded).last_hidden_state.mean(1)
    close(found, expected)


def test_it_trains_one(tmp_path):
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

    model = library.SentenceTransformer(save("discriminator", tmp_path), device="cpu")
    features = [model.tokenize(["w7 w9", "w200 w5"]), model.tokenize(["w11", "w12 w13"])]
    CosineSimilarityLoss(model)(features, torch.tensor([1.0, 0.0])).backward()
    table = model[0].model.get_input_embeddings()
    assert table.quotient.grad.any()
    assert table.remainder.grad.any()
