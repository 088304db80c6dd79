"""transformers' Auto classes: every head, its loss from labels, vectors as inputs, attention, tuples, checkpointing."""

import pytest
import torch
from interop_cases import HEADS, WITH_LOSS, inputs, make, save
from torch.nn import functional as F

import quorem
from quorem import UserError

every_head = pytest.mark.parametrize("name", list(HEADS))
every_loss = pytest.mark.parametrize("name", WITH_LOSS)
IGNORED = -100


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@every_head
def test_a_saved_folder_loads_with_its_auto_class_and_gives_the_same(name, tmp_path):
    folder = save(name, tmp_path)
    model = HEADS[name].auto.from_pretrained(folder)
    assert type(model) is HEADS[name].model
    expected = make(name)(**inputs(name))[0]
    assert expected.shape == HEADS[name].output
    close(model.eval()(**inputs(name))[0], expected)
    model.save_pretrained(tmp_path / "again")
    again = HEADS[name].auto.from_pretrained(tmp_path / "again").eval()
    close(again(**inputs(name))[0], expected)


def expected_loss(name, logits, labels, mask):
    """By torch's own losses, from the scores of all places."""
    if name == "discriminator":
        return F.binary_cross_entropy_with_logits(logits[mask == 1], labels[mask == 1].float())
    if name == "next item":  # place t is asked for what comes next
        logits, labels = logits[:, :-1], labels[:, 1:]
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten())


@every_loss
def test_the_loss_of_labels_is_that_of_torch_over_all_scores(name):
    model, given, labels = make(name), inputs(name), HEADS[name].labels
    found = model(**given, **HEADS[name].targets)
    if isinstance(labels, dict):
        pairs = zip((found.start_logits, found.end_logits), labels.values(), strict=True)
        close(found.loss, sum(F.cross_entropy(*pair) for pair in pairs) / 2)
        return
    logits = model(**given).logits
    if name.startswith("generator"):  # scores of ids that are never targets count in torch's, not in the exact loss
        logits = logits.index_fill(-1, torch.arange(5), -torch.inf)
    close(found.loss, expected_loss(name, logits, labels, given["attention_mask"]))
    found.loss.backward()
    gradient = model.get_input_embeddings().own.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("name", ["discriminator", "generator", "generator, tree", "next item", "token classifier"])
def test_labels_that_are_ignored_change_nothing(name):
    model, given, labels = make(name), inputs(name), HEADS[name].labels.clone()
    labels[:, ::2] = IGNORED
    found = model(**given, labels=labels).loss
    logits = model(**given).logits
    if name.startswith("generator"):
        logits = logits.index_fill(-1, torch.arange(5), -torch.inf)
    real = given["attention_mask"].masked_fill(labels == IGNORED, 0)
    close(found, expected_loss(name, logits, labels, real))
    none = model(**given, labels=torch.full_like(labels, IGNORED)).loss
    assert none == 0 or (name == "token classifier" and none.isnan())  # as torch's own cross-entropy


@pytest.mark.parametrize("name", ["generator", "generator, tree", "next item"])
def test_a_loss_needs_no_scores_of_all_ids_and_says_which_label_has_none(name):
    model, given, labels = make(name), inputs(name), HEADS[name].labels
    assert model(**given, labels=labels).logits is None
    close(model(**given, labels=labels, output_logits=True).logits, model(**given).logits)
    assert model(**given, output_logits=False).logits is None
    with pytest.raises(UserError, match="labels: id 3 is one of those that the softmax never predicts"):
        model(**given, labels=labels.index_fill(1, torch.tensor([4]), 3))


@pytest.mark.parametrize(
    ("problem", "labels"),
    [
        ("single_label_classification", torch.tensor([0, 2, 1])),
        ("multi_label_classification", torch.eye(3)),
        ("regression", torch.tensor([0.5, -1.0, 2.0])),
    ],
)
def test_a_classifier_without_a_problem_type_takes_its_loss_by_the_labels_as_transformers_do(problem, labels):
    number = {"num_labels": 1, "id2label": {0: "x"}, "label2id": {"x": 0}} if problem == "regression" else {}
    said, unsaid = make("classifier", problem_type=problem, **number), make("classifier", **number)
    close(unsaid(**inputs("classifier"), labels=labels).loss, said(**inputs("classifier"), labels=labels).loss)


@every_head
def test_vectors_stand_where_ids_do(name):
    model, given = make(name), inputs(name)
    ids = given.pop("input_ids")
    expected = model(ids, **given)[0]
    close(model(inputs_embeds=model.get_input_embeddings()(ids), **given)[0], expected)
    for wrong in ({}, {"input_ids": ids, "inputs_embeds": model.get_input_embeddings()(ids)}):
        with pytest.raises(UserError, match="either input_ids or inputs_embeds"):
            model(**wrong, **given)


@pytest.mark.parametrize(
    "changes",
    [{"classifier_length": 8}, {"classifier_ngrams": 2, "classifier_ngram_rows": 64}, {"classifier_sif": True}],
    ids=str,
)
def test_a_classifier_that_needs_ids_refuses_vectors(changes):
    model = make("classifier", **changes)
    with pytest.raises(UserError, match="inputs_embeds: this classifier cuts whole documents or has a linear branch"):
        model(inputs_embeds=torch.zeros(1, 4, 24))


@every_head
@pytest.mark.parametrize("positions", ["absolute", "rotary", "alibi"])
def test_attention_and_states_are_returned_where_asked_and_change_nothing(name, positions):
    model, given = make(name, positions=positions), inputs(name)
    found = model(**given, output_attentions=True, output_hidden_states=True)
    rows = 6 if name == "multiple choice" else 3
    assert [tuple(each.shape) for each in found.attentions] == [(rows, 2, 17, 17)] * 2
    assert [tuple(each.shape) for each in found.hidden_states] == [(rows, 17, 32)] * 3
    mask = given["attention_mask"].reshape(rows, 17)
    for each in found.attentions:
        close(each.sum(-1), torch.ones(rows, 2, 17))
        assert not each.transpose(1, 3)[mask == 0].any()  # nobody looks at padding
        if name == "next item":
            assert not each.triu(1).any()  # nor at what comes later
    plain = model(**given)
    assert plain.attentions is None
    assert plain.hidden_states is None
    close(found[0], plain[0])
    model.config.output_hidden_states = True
    assert len(model(**given).hidden_states) == 3
    assert model(**given, output_hidden_states=False).hidden_states is None


@every_head
def test_tuples_are_given_where_asked(name):
    model, given = make(name), inputs(name)
    expected = model(**given)[0]
    found = model(**given, return_dict=False)
    assert isinstance(found, tuple)
    close(found[0], expected)
    model.config.return_dict = False
    found = model(**given)
    assert isinstance(found, tuple)
    close(found[0], expected)


@every_loss
def test_checkpointing_changes_no_gradient(name):
    model, given = make(name), inputs(name)
    model.train()
    model.requires_grad_(True)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.config.hidden_dropout_prob = 0.0
    gradients = []
    for checkpointed in (False, True):
        if checkpointed:
            turn_on = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            turn_on()
        model.zero_grad()
        model(**given, **HEADS[name].targets).loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
    assert model.electra.encoder.layer[0].gradient_checkpointing
    for plain, other in zip(*gradients, strict=True):
        close(other, plain)


@every_head
def test_the_table_is_found_and_cannot_be_resized(name):
    model = make(name)
    assert isinstance(model.get_input_embeddings(), quorem.embedding(100, 4, kind="qr").__class__)
    with pytest.raises(UserError, match=r"cannot resize their vocabulary: pre-train with the model.vocab_size"):
        model.resize_token_embeddings(300)
