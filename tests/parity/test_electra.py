import pytest
import torch
import transformers
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    ElectraConfig,
    ElectraForMultipleChoice,
)

import quorem.models.layers
from quorem import (
    QuoremConfig,
    QuoremForMaskedLM,
    QuoremForMultipleChoice,
    QuoremForPreTraining,
    QuoremForSequenceClassification,
    QuoremForTokenClassification,
    QuoremModel,
    UserError,
)
from quorem.arrangement.token_order import frequency_order
from quorem.models.classifier import pool
from quorem.models.positions import alibi_bias, rotate, rotation_angles

SIZES = {
    "small": {"embedding_size": 128, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 512},
    "base": {"embedding_size": 192, "hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 256},
    "tiny": {"embedding_size": 24, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48},
}
SHARED = {
    "vocab_size": 211, "num_hidden_layers": 2, "max_position_embeddings": 40, "num_labels": 3,
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.1,
}  # fmt: skip
MODELS = {
    "Model": (QuoremModel, AutoModel),
    "ForMaskedLM": (QuoremForMaskedLM, AutoModelForMaskedLM),
    "ForPreTraining": (QuoremForPreTraining, AutoModelForPreTraining),
    "ForTokenClassification": (QuoremForTokenClassification, AutoModelForTokenClassification),
    "ForSequenceClassification": (QuoremForSequenceClassification, AutoModelForSequenceClassification),
}
QR = {"kind": "qr", "own_rows": 30, "divisor": 14, "permuted": True, "operation": "multiply"}
TIED = "generator_lm_head.weight"  # transformers names the tied table twice

every_model = pytest.mark.parametrize("name", list(MODELS))


@pytest.fixture(params=["written out", "fused"])
def attention(request, monkeypatch):
    if request.param == "fused":
        monkeypatch.setattr(quorem.models.layers, "WRITTEN_OUT_UP_TO", 0)


def make_config(size="tiny", **changes):
    return QuoremConfig(**(SHARED | SIZES[size] | changes))


def make_model(cls, size="tiny", **changes):
    torch.manual_seed(1)
    return cls(make_config(size, **changes)).eval()


def make_reference(name, size="tiny"):
    torch.manual_seed(2)
    model = getattr(transformers, f"Electra{name}")(ElectraConfig(**SHARED, **SIZES[size])).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # so that no bias is 0 and no scale 1
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def twins(name, size="tiny"):
    reference = make_reference(name, size)
    model = make_model(MODELS[name][0], size, classifier_head="hf")
    state = {key: value for key, value in reference.state_dict().items() if key != TIED}
    model.load_state_dict(state, strict=True)
    return model, reference


def make_batch(batch=3, time=17, vocab=211):
    generator = torch.Generator().manual_seed(3)
    lengths = torch.tensor([time, time - 5, 2, 9])[:batch]
    mask = (torch.arange(time) < lengths.unsqueeze(-1)).long()
    ids = torch.randint(5, vocab, (batch, time), generator=generator) * mask
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": torch.randint(0, 2, (batch, time), generator=generator) * mask,
    }


def output_of(found, mask):
    """Whatever a model returns, at real tokens."""
    values = found.last_hidden_state if "last_hidden_state" in found else found.logits
    return values if values.dim() == 2 and values.shape != mask.shape else values[mask.bool()]


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@every_model
@pytest.mark.parametrize(
    ("size", "inputs"), [("small", "ids"), ("base", "padding"), ("small", "padding and types"), ("base", "ids")]
)
@pytest.mark.usefixtures("attention")
def test_outputs_and_gradients_equal_transformers_electra(name, size, inputs):
    model, reference = twins(name, size)
    batch = make_batch()
    mask = batch["attention_mask"]
    if inputs != "padding and types":
        del batch["token_type_ids"]
    if inputs == "ids":  # transformers gives the padding token no gradient even where it is attended to, so none is
        mask = torch.ones_like(mask)
        batch = {"input_ids": batch["input_ids"].where(batch["attention_mask"] == 1, 9)}
    outputs = [output_of(each(**batch), mask) for each in (model, reference)]
    close(*outputs)
    slopes = torch.randn(outputs[0].shape, generator=torch.Generator().manual_seed(4)) / outputs[0].numel() ** 0.5
    for output in outputs:
        (output * slopes).sum().backward()
    expected = {key: parameter.grad for key, parameter in reference.named_parameters() if key != TIED}
    found = {key: parameter.grad for key, parameter in model.named_parameters()}
    assert found.keys() == expected.keys()
    for key, gradient in expected.items():
        if gradient is None:
            assert found[key] is None or not found[key].any(), key
        else:
            scale = max(1.0, float(gradient.abs().max()))
            assert (found[key] - gradient).abs().max() < 1e-5 * scale, key


def test_choices_get_the_scores_and_gradients_of_transformers_electra():
    torch.manual_seed(1)
    config = make_config(num_labels=2)
    settings = config.to_dict() | {"model_type": "electra", "summary_activation": "gelu", "summary_last_dropout": 0.0}
    reference = ElectraForMultipleChoice(ElectraConfig(**settings)).eval()
    model = QuoremForMultipleChoice(config).eval()
    model.load_state_dict(reference.state_dict())
    batch = {name: value.unflatten(0, (2, 2)) for name, value in make_batch(4).items()}
    labels = torch.tensor([1, 0])
    found, expected = (each(**batch, labels=labels) for each in (model, reference))
    close(found.logits, expected.logits)
    close(found.loss, expected.loss)
    found.loss.backward()
    expected.loss.backward()
    wanted = dict(reference.named_parameters())
    for name, parameter in model.named_parameters():
        if wanted[name].grad is not None:
            close(parameter.grad, wanted[name].grad)


@pytest.mark.usefixtures("attention")
def test_hidden_states_equal_transformers_electra():
    model, reference = twins("Model")
    batch = make_batch()
    states = [each(**batch, output_hidden_states=True).hidden_states for each in (model, reference)]
    assert len(states[0]) == 3
    real = batch["attention_mask"].bool()
    for found, expected in zip(*states, strict=True):
        close(found[real], expected[real])


@pytest.mark.parametrize("name", ["ForPreTraining", "ForSequenceClassification"])
def test_losses_equal_transformers_electra(name):
    model, reference = twins(name)
    batch = make_batch()
    shape = (3,) if name == "ForSequenceClassification" else (3, 17)
    labels = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(5))
    close(model(**batch, labels=labels).loss, reference(**batch, labels=labels).loss)


@every_model
def test_a_folder_saved_by_transformers_loads_completely(name, tmp_path):
    reference = make_reference(name)
    reference.save_pretrained(tmp_path)
    model, info = MODELS[name][0].from_pretrained(
        tmp_path, config=make_config(classifier_head="hf"), output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    assert not set(info["unexpected_keys"]) - {TIED}
    batch = make_batch()
    outputs = [output_of(each(**batch), batch["attention_mask"]) for each in (model.eval(), reference)]
    close(*outputs)


@every_model
@pytest.mark.parametrize(
    ("positions", "table"), [("absolute", "dense"), ("rotary", "qr"), ("alibi", "dense"), ("absolute", "qr")]
)
def test_saving_and_loading_changes_no_bit(name, positions, table, tmp_path):
    changes = {"embedding": QR, "head": {"kind": "two_level"}, "never_targets": [0, 2, 3, 4]} if table == "qr" else {}
    cls, auto = MODELS[name]
    model = make_model(cls, positions=positions, **changes)
    if table == "qr":
        encoder = model if name == "Model" else model.electra
        counts = torch.randint(0, 99, (211,), generator=torch.Generator().manual_seed(6))
        encoder.embeddings.word_embeddings.assignment.set_order(frequency_order(counts))
    model.save_pretrained(tmp_path)
    loaded, info = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is cls
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert loaded.config.to_json_string() == model.config.to_json_string()
    state = loaded.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    batch = make_batch()
    outputs = [output_of(each(**batch), batch["attention_mask"]) for each in (loaded.eval(), model)]
    assert torch.equal(*outputs)


def test_a_loaded_generator_reads_its_own_table_in_its_head(tmp_path):
    make_model(QuoremForMaskedLM, embedding=QR, head={"kind": "two_level"}).save_pretrained(tmp_path)
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert loaded.generator_lm_head.embedding is loaded.electra.embeddings.word_embeddings
    assert not any("generator_lm_head.embedding" in key for key in loaded.state_dict())


def test_a_classifier_from_a_discriminator_lacks_only_its_head(tmp_path):
    source = make_model(QuoremForPreTraining)
    source.save_pretrained(tmp_path)
    model, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert set(info["missing_keys"]) == {"classifier.out_proj.weight", "classifier.out_proj.bias"}
    assert all(key.startswith("discriminator_predictions.") for key in info["unexpected_keys"])
    batch = make_batch()
    assert torch.equal(model.eval().electra(**batch).last_hidden_state, source.electra(**batch).last_hidden_state)
    weight = model.classifier.out_proj.weight
    assert weight.std().item() == pytest.approx(0.1, rel=0.3)
    assert not model.classifier.out_proj.bias.any()


@pytest.mark.parametrize("positions", ["absolute", "rotary", "alibi"])
@pytest.mark.usefixtures("attention")
def test_more_padding_changes_nothing_at_real_tokens(positions):
    model = make_model(QuoremModel, positions=positions)
    batch = make_batch()
    longer = {key: torch.nn.functional.pad(value, (0, 9)) for key, value in batch.items()}
    longer["input_ids"][:, -9:] = 77  # whatever stands there
    real = batch["attention_mask"].bool()
    close(model(**longer).last_hidden_state[:, :17][real], model(**batch).last_hidden_state[real])


@pytest.mark.parametrize("positions", ["absolute", "rotary", "alibi"])
@pytest.mark.usefixtures("attention")
def test_left_padding_equals_no_padding(positions):
    """Trap 22: absolute positions count real tokens; the others see distances only."""
    model = make_model(QuoremModel, positions=positions)
    ids = torch.randint(5, 211, (2, 11), generator=torch.Generator().manual_seed(8))
    padded = torch.nn.functional.pad(ids, (6, 0))
    mask = torch.nn.functional.pad(torch.ones_like(ids), (6, 0))
    close(model(padded, mask).last_hidden_state[:, 6:], model(ids).last_hidden_state)


@pytest.mark.parametrize("positions", ["absolute", "rotary", "alibi"])
def test_the_order_of_tokens_matters(positions):
    model = make_model(QuoremModel, positions=positions)
    ids = torch.arange(5, 16).unsqueeze(0)
    forwards, backwards = model(ids).last_hidden_state, model(ids.flip(1)).last_hidden_state.flip(1)
    if positions == "alibi":  # distances alone cannot tell a sequence from its mirror image
        close(forwards, backwards)
        ids = ids[:, torch.tensor([1, 0, *range(2, 11)])]
        backwards = model(ids).last_hidden_state[:, torch.tensor([1, 0, *range(2, 11)])]
    assert (forwards - backwards).abs().max() > 1e-2


def test_rotary_scores_depend_on_distance_only():
    torch.manual_seed(9)
    query, key = torch.randn(2, 1, 1, 1, 16).expand(-1, -1, -1, 30, -1)
    rotation = rotation_angles(30, 16, torch.device("cpu"))
    scores = (rotate(query, rotation) @ rotate(key, rotation).transpose(-1, -2))[0, 0]
    for distance in (-29, -3, 0, 1, 20):
        diagonal = scores.diagonal(distance)
        close(diagonal, diagonal[:1].expand_as(diagonal))
    assert scores[0].std() > 0.1
    close(rotate(query, rotation).norm(dim=-1), query.norm(dim=-1))


def test_rotary_turns_each_pair_by_its_own_angle():
    """RoFormer, eq. 34: the complex number (x_i, x_{i + d/2}) is multiplied by exp(i m theta_i)."""
    vectors = torch.randn(1, 1, 7, 8, generator=torch.Generator().manual_seed(10))
    place = torch.arange(7, dtype=torch.float64).unsqueeze(-1)
    angles = place * 10000.0 ** (-2 * torch.arange(4, dtype=torch.float64) / 8)
    turned = torch.complex(vectors[..., :4].double(), vectors[..., 4:].double()) * torch.exp(1j * angles)
    found = rotate(vectors, rotation_angles(7, 8, torch.device("cpu")))
    close(found.double(), torch.cat([turned.real, turned.imag], -1))


def test_alibi_bias_falls_with_distance_at_each_heads_slope():
    bias = alibi_bias(8, 6, torch.device("cpu"))
    assert bias.shape == (1, 8, 6, 6)
    for head in range(8):
        slope = 0.5 ** (head + 1)  # the paper's slopes for 8 heads: 1/2, 1/4, ..., 1/256
        assert bias[0, head, 4].tolist() == pytest.approx([-slope * abs(4 - j) for j in range(6)])
    assert alibi_bias(1, 6, torch.device("cpu"))[0, 0, 4].tolist() == [-2, -1.5, -1, -0.5, 0, -0.5]
    assert alibi_bias(4, 2, torch.device("cpu"))[0, -1, 0, 1] == -1 / 256


def test_a_sequence_beyond_the_absolute_positions_is_a_user_error_and_others_have_no_limit():
    ids = torch.full((1, 41), 7)
    with pytest.raises(UserError, match=r"41 tokens.*end at 40"):
        make_model(QuoremModel)(ids)
    assert make_model(QuoremModel, positions="rotary")(ids).last_hidden_state.shape == (1, 41, 32)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("embedding", {"kind": "dens", "own_rows": 211, "divisor": 1}, "'dens'.*Did you mean dense.*low_rank.*qr"),
        ("head", {"kind": "twolevel"}, "'twolevel'.*Did you mean two_level.*full, tree, two_level"),
        ("classifier_head", "papr", "'papr'.*Did you mean paper.*hf, paper"),
    ],
)
def test_an_unknown_kind_in_a_folder_is_a_user_error_listing_the_known(key, value, message, tmp_path):
    cls = QuoremForSequenceClassification if key == "classifier_head" else QuoremForMaskedLM
    make_model(cls).save_pretrained(tmp_path)
    config = QuoremConfig.from_pretrained(tmp_path)
    setattr(config, key, value)
    config.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=message):
        cls.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("positions", "absolute, rotary, alibi"),
        ("initializer", "bert, width"),
        ("classifier_pooling", "cls, mean, max"),
        ("classifier_layers", "last, all"),
    ],
)
def test_an_unknown_choice_in_a_config_is_an_error_listing_the_known(key, message):
    with pytest.raises(ValueError, match=message):
        make_config(**{key: "other"})


def test_a_vocabulary_is_not_resized():
    with pytest.raises(UserError, match=r"model\.vocab_size"):
        make_model(QuoremModel).resize_token_embeddings(300)


@pytest.mark.parametrize("how", ["cls", "mean", "max"])
def test_pooling_ignores_padding_on_either_side(how):
    hidden = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(12))
    expected = {"cls": hidden[:, 0], "mean": hidden.mean(1), "max": hidden.amax(1)}[how]
    close(pool(hidden, None, how), expected)
    for sides in ((0, 3), (2, 0), (2, 3)):
        padded = torch.nn.functional.pad(hidden, (0, 0, *sides), value=1e4)
        mask = torch.nn.functional.pad(torch.ones(2, 5, dtype=torch.int64), sides)
        for each in (mask, mask.bool()):
            close(pool(padded, each, how), expected)


@pytest.mark.parametrize("head", ["paper", "hf"])
def test_a_classifier_on_all_layers_sees_each_and_leaves_the_encoder_alone(head):
    changes = {"classifier_pooling": "mean", "classifier_head": head}
    model = make_model(QuoremForSequenceClassification, classifier_layers="all", **changes).eval()
    plain = make_model(QuoremForSequenceClassification, **changes).eval()
    model.electra.load_state_dict(plain.electra.state_dict())
    batch = make_batch()
    outcome, states = model(**batch), plain(**batch, output_hidden_states=True).hidden_states
    assert outcome.hidden_states is None
    pooled = [pool(state, batch["attention_mask"], "mean") for state in states]
    assert len(pooled) == model.config.num_hidden_layers + 1
    close(outcome.logits, model.classifier(torch.cat(pooled, -1)))
    for i in range(len(pooled)):
        other = [vector + (number == i) for number, vector in enumerate(pooled)]
        assert not torch.allclose(outcome.logits, model.classifier(torch.cat(other, -1)))


@pytest.mark.parametrize("layers", ["last", "all"])
@pytest.mark.parametrize("how", ["cls", "mean", "max"])
def test_a_classifier_ignores_padding(how, layers):
    model = make_model(QuoremForSequenceClassification, classifier_pooling=how, classifier_layers=layers)
    batch = make_batch()
    for row, length in enumerate(batch["attention_mask"].sum(-1).tolist()):
        alone = {key: value[row : row + 1, :length] for key, value in batch.items()}
        close(model(**batch).logits[row], model(**alone).logits[0])


@pytest.mark.parametrize("initializer", ["bert", "width"])
@pytest.mark.parametrize("table", ["dense", "qr"])
def test_weights_start_with_the_spread_their_initializer_says(initializer, table):
    changes = {"embedding": QR, "head": {"kind": "two_level"}} if table == "qr" else {}
    model = make_model(QuoremForMaskedLM, "small", initializer=initializer, initializer_range=0.05, **changes)
    by_width = initializer == "width"
    vectors = model.electra.embeddings.word_embeddings(torch.arange(211))
    assert vectors.std().item() == pytest.approx(128**-0.5 if by_width else 0.05, rel=0.1)
    layer = model.electra.encoder.layer[0]
    for linear in (layer.attention.self.query, layer.intermediate.dense, layer.output.dense):
        expected = (3 * linear.in_features) ** -0.5 if by_width else 0.05
        assert linear.weight.std().item() == pytest.approx(expected, rel=0.1)
        assert not linear.bias.any()
