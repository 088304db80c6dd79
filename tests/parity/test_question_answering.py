"""Answers against transformers' ELECTRA, a naive twin of the paper's head, and the official scores."""

import gzip
import json
import random

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForQuestionAnswering, ElectraConfig, ElectraForQuestionAnswering

from quorem import (
    QuoremConfig,
    QuoremForQuestionAnswering,
    QuoremForSequenceClassification,
    QuoremModel,
    UserError,
)
from quorem.finetuning.answer_scores import best_threshold, score_answer, score_answers
from quorem.finetuning.program import infer
from quorem.finetuning.rows import Examples

SIZES = {
    "vocab_size": 211, "embedding_size": 24, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48,
    "num_hidden_layers": 2, "max_position_embeddings": 40, "num_labels": 2, "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0, "initializer_range": 0.1,
}  # fmt: skip
QUESTION = 5  # tokens before the text


def make_batch(lengths=(17, 12, 9)):
    generator = torch.Generator().manual_seed(3)
    mask = (torch.arange(17) < torch.tensor(lengths).unsqueeze(-1)).long()
    ids = torch.randint(5, 211, (3, 17), generator=generator) * mask
    types = (torch.arange(17) >= QUESTION).long() * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def make_model(head):
    torch.manual_seed(1)
    model = QuoremForQuestionAnswering(QuoremConfig(**SIZES, classifier_head=head)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # so that no bias is 0
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("starts", "ends"), [([7, 5, 0], [9, 5, 0]), ([7, 5, 40], [9, 5, 40])])
def test_scores_loss_and_gradients_equal_transformers_electra(starts, ends):
    model = make_model("hf")
    reference = ElectraForQuestionAnswering(ElectraConfig(**SIZES)).eval()
    reference.load_state_dict(model.state_dict())
    where = {"start_positions": torch.tensor(starts), "end_positions": torch.tensor(ends)}  # 40 is outside of the row
    full = make_batch((17, 17, 17))  # transformers' loss counts padding's scores too, which are nobody's
    found, expected = (each(**full, **where) for each in (model, reference))
    for name in ("loss", "start_logits", "end_logits"):
        close(found[name], expected[name])
    found.loss.backward()
    expected.loss.backward()
    wanted = dict(reference.named_parameters())
    for name, parameter in model.named_parameters():
        close(parameter.grad, wanted[name].grad)
    padded = make_batch()
    real = padded["attention_mask"].bool()
    found, expected = (each(**padded) for each in (model, reference))
    close(found.start_logits[real], expected.start_logits[real])
    close(found.end_logits[real], expected.end_logits[real])


def naive_ends(head, hidden, allowed, start):
    """A dense layer on [start; end] for every pair, as google-research/electra writes it."""
    rows = []
    for row in range(len(hidden)):
        pairs = torch.stack([torch.cat([hidden[row, start[row]], each]) for each in hidden[row]])
        rows.append(head.end(F.gelu(head.hidden(pairs))).squeeze(-1))
    return torch.stack(rows).masked_fill(~allowed, -1e30)


def test_the_papers_head_equals_a_naive_twin_of_it():
    model, batch = make_model("paper"), make_batch()
    hidden = model.electra(**batch).last_hidden_state
    allowed = (batch["token_type_ids"] == 1) | (torch.arange(17) == 0)
    start = model.qa_joint.start(hidden).squeeze(-1).masked_fill(~allowed, -1e30)
    found = model(**batch)
    close(found.start_logits[allowed], start[allowed])
    assert (found.start_logits[~allowed] < -1e30).all()
    expected = (start.softmax(-1).unsqueeze(-1) * hidden).sum(1)
    both = torch.cat([hidden[:, 0], expected], -1)
    close(
        found.impossible_logits, model.qa_joint.impossible(F.gelu(model.qa_joint.impossible_hidden(both))).squeeze(-1)
    )
    summed, beam = torch.zeros(3, 17), found.start_top_index
    assert beam.shape == (3, 20)
    assert beam[:, :17].sort(-1).values.tolist() == [list(range(17))] * 3
    assert (beam[:, 17:] >= 17).all()  # a row has no more tokens
    for place in range(17):
        top = found.start_top_index[:, place]
        ends = naive_ends(model.qa_joint, hidden, allowed, top)
        close(found.end_top_logits[:, place][allowed], ends[allowed])
        summed += start.softmax(-1).gather(1, top.unsqueeze(1)) * ends.softmax(-1)
    close(found.end_logits.exp(), summed)
    given = model(**batch, start_positions=torch.tensor([6, 0, 8]))
    close(given.end_logits[allowed], naive_ends(model.qa_joint, hidden, allowed, [6, 0, 8])[allowed])
    assert given.start_top_index is None


def test_the_papers_loss_is_half_of_start_and_end_and_half_of_answerability():
    model, batch = make_model("paper"), make_batch()
    start, end, impossible = torch.tensor([7, 0, 5]), torch.tensor([9, 0, 8]), torch.tensor([0, 1, 0])
    found = model(**batch, start_positions=start, end_positions=end, is_impossible=impossible)
    parts = [F.cross_entropy(found.start_logits, start), F.cross_entropy(found.end_logits, end)]
    third = F.binary_cross_entropy_with_logits(found.impossible_logits, impossible.float())
    close(found.loss, sum(parts) / 2 + third / 2)


@pytest.mark.parametrize("head", ["paper", "hf"])
def test_padding_changes_nothing_and_saving_changes_no_bit(head, tmp_path):
    model, batch = make_model(head), make_batch()
    model.save_pretrained(tmp_path)
    loaded, info = AutoModelForQuestionAnswering.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is QuoremForQuestionAnswering
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    real = batch["attention_mask"].bool()
    found, again = model(**batch), loaded.eval()(**batch)
    assert torch.equal(found.start_logits, again.start_logits)
    assert torch.equal(found.end_logits, again.end_logits)
    for row, length in enumerate(real.sum(-1).tolist()):
        alone = model(**{name: value[row : row + 1, :length] for name, value in batch.items()})
        close(found.start_logits[row, :length], alone.start_logits[0])


def test_an_unknown_head_is_a_user_error():
    with pytest.raises(UserError, match=r"classifier_head='papr'.*Did you mean paper"):
        make_model("papr")


# ---- scores


@pytest.mark.parametrize(
    ("predicted", "answers", "v2", "exact", "f1"),
    [
        ("The Cat!", ["cat"], False, True, 1.0),
        ("the black cat", ["a cat", "black dog"], False, False, 2 / 3),  # 1 of 2 words against "cat"
        ("cat cat", ["cat"], False, False, 2 / 3),  # a word counts as often as it is there
        ("dog", ["cat"], False, False, 0.0),
        ("", ["cat"], False, False, 0.0),
        ("the", ["an"], False, True, 0.0),  # nothing is left of either: v1.1's F1 finds no common word
        ("the", ["an"], True, True, 1.0),
        ("", [], True, True, 1.0),
        ("cat", [], True, False, 0.0),
        ("", ["cat"], True, False, 0.0),
        ("U.S.  army", ["us army"], True, True, 1.0),
    ],
)
def test_hand_made_answers_get_the_official_scores(predicted, answers, v2, exact, f1):
    assert score_answer(predicted, answers, v2=v2) == (exact, pytest.approx(f1))


def test_f1_of_characters():
    assert score_answer("東京", ["東京 都"], units="characters") == (False, pytest.approx(0.8))
    assert score_answer("東京", ["東京都"]) == (False, 0.0)


def test_scores_of_either_kind_of_question_and_the_best_threshold():
    answers = [["d b"], ["c"], [], [], ["e f"]]
    found, against = ["b", "c", "x", "y", "z"], [-2.0, -1.0, 0.0, 3.0, 4.0]
    assert best_threshold(found, against, answers) == -1.0  # the third answer would cost a point, and nothing gains one
    scores = score_answers(["b", "c", "", "", ""], answers)
    assert scores == {
        "exact_match": 0.6, "f1": pytest.approx(11 / 15),
        "has_answer": {"exact_match": 1 / 3, "f1": pytest.approx(5 / 9), "rows": 3},
        "no_answer": {"exact_match": 1.0, "f1": 1.0, "rows": 2},
    }  # fmt: skip
    assert best_threshold(["x", "y"], [1.0, 2.0], [[], ["d"]]) == 0.0  # none is answered
    assert best_threshold(["x", "d"], [1.0, 1.0], [[], ["d"]]) == 0.0  # those with one score go together: a draw


def predictions_and_answers(shared_data):
    """Answers of JaQuAD's dev set, each right, cut elsewhere, or wrong."""
    rows = json.loads(gzip.decompress((shared_data / "jaquad" / "dev.json.gz").read_bytes()))["data"]
    chance, found, answers = random.Random(0), [], []
    for paragraph in (each for article in rows for each in article["paragraphs"]):
        for question in paragraph["qas"]:
            answer, context = question["answers"][0], paragraph["context"]
            start = max(0, answer["answer_start"] + chance.randint(-2, 2))
            guesses = answer["text"], context[start : start + len(answer["text"]) + 1], f"The {answer['text']}.", "a"
            found.append(chance.choice(guesses))
            answers.append([answer["text"], context[:3]])
    return found, answers


@pytest.mark.slow
def test_scores_of_jaquads_dev_set_equal_torchmetrics(shared_data):
    text = pytest.importorskip("torchmetrics.functional.text")
    found, answers = predictions_and_answers(shared_data)
    wanted = text.squad(
        [{"prediction_text": each, "id": str(number)} for number, each in enumerate(found)],
        [{"answers": {"text": each, "answer_start": [0] * len(each)}, "id": str(number)}
         for number, each in enumerate(answers)],
    )  # fmt: skip
    scores = score_answers(found, answers)
    assert len(found) == 3939
    assert scores == {name: pytest.approx(float(wanted[name]) / 100, abs=1e-6) for name in ("exact_match", "f1")}
    by_character = score_answers(found, answers, units="characters")
    assert by_character["exact_match"] == scores["exact_match"]
    assert by_character["f1"] > scores["f1"]


@pytest.mark.parametrize("head", ["hf", "paper"])
def test_places_outside_of_the_row_count_for_nothing(head):
    model, batch = make_model(head), make_batch()

    def loss(starts, ends):
        return model(**batch, start_positions=torch.tensor(starts), end_positions=torch.tensor(ends)).loss

    close(loss([7, -1, 40], [9, -1, 40]), loss([7, 40, 40], [9, 40, 40]))
    assert loss([-1, 40, -1], [40, -1, 40]).item() == 0


def test_the_encoder_of_a_model_that_answers_loads_without_a_word(tmp_path):
    make_model("paper").save_pretrained(tmp_path)
    _, found = QuoremModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not found["unexpected_keys"]
    assert not found["missing_keys"]


def test_rows_as_long_as_positions_go_are_read():
    """Batches are padded to a multiple of 16 tokens, but no further than to the last position."""
    model = QuoremForSequenceClassification(QuoremConfig(**SIZES)).eval()
    (found,) = infer(model, Examples([[5] * 40, [6] * 3], []), pad_id=0, batch_size=2, dtype=None)
    assert found[1].logits.shape == (2, 2)
