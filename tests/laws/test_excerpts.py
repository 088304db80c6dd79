"""What the encoder reads of whole documents, and how it is pooled, against one piece at a time."""

import itertools

import pytest
import torch

from quorem.finetuning.program import share_out
from quorem.models.classifier import PIECES_AT_ONCE, QuoremForSequenceClassification
from quorem.models.configuration import POOLINGS, TRUNCATIONS, QuoremConfig
from quorem.models.excerpts import excerpts, window_counts

CLS, SEP, PAD = 2, 3, 0
LENGTHS = [2, 3, 5, 6, 7, 8, 11, 12, 13, 30, 47]


def documents():
    return [[CLS, *range(10, 8 + length), SEP] for length in LENGTHS]


def padded(rows, *, left=False, extra=0):
    longest = max(map(len, rows)) + extra
    full = [[PAD] * (longest - len(row)) + row if left else row + [PAD] * (longest - len(row)) for row in rows]
    real = [[left ^ (i < (longest - len(row) if left else len(row))) for i in range(longest)] for row in rows]
    return torch.tensor(full), torch.tensor(real)


def by_hand(row, length, truncation):
    body, room = row[1:-1], length - 2
    if truncation == "windows":
        count = max(1, -(-len(body) // room))
        cuts = [len(body) * i // count for i in range(count + 1)]
        parts = [body[i:j] for i, j in itertools.pairwise(cuts)]
    elif len(body) <= room:
        parts = [body]
    else:
        head = {"head": room, "tail": 0, "both": room - room // 2}[truncation]
        parts = [body[:head] + body[len(body) - (room - head) :]]
    return [[CLS, *part, SEP] for part in parts]


@pytest.mark.parametrize("truncation", TRUNCATIONS)
@pytest.mark.parametrize("length", [4, 5, 12, 100])
@pytest.mark.parametrize("left", [False, True])
def test_pieces_are_those_cut_by_hand(truncation, length, left):
    rows = documents()
    expected = [by_hand(row, length, truncation) for row in rows]
    for multiple, extra in ((1, 0), (16, 5)):
        ids, mask = padded(rows, left=left, extra=extra)
        found = excerpts(ids, mask, length=length, truncation=truncation, pad_id=PAD, multiple=multiple)
        real = torch.ones_like(found.input_ids) if found.attention_mask is None else found.attention_mask
        pieces = [row[keep.bool()].tolist() for row, keep in zip(found.input_ids, real, strict=True)]
        assert pieces == [piece for each in expected for piece in each]
        assert found.owners.tolist() == [i for i, each in enumerate(expected) for _ in each]
        assert (found.input_ids[real == 0] == PAD).all()
        assert found.input_ids.shape[1] <= max(length, max(map(len, pieces)))


def test_windows_lose_no_token_and_differ_by_one_at_most():
    for length, row in itertools.product((4, 7, 20), documents()):
        found = excerpts(torch.tensor([row]), None, length=length, truncation="windows", pad_id=PAD)
        sizes = (found.input_ids >= 10).sum(1)
        assert found.input_ids[found.input_ids >= 10].tolist() == row[1:-1]
        assert sizes.max() - sizes.min() <= 1
        assert len(found.input_ids) == window_counts(torch.tensor([len(row)]), length)


def test_shares_hold_every_document_once_and_no_more_pieces_than_asked():
    counts = torch.tensor([1, 1, 1, 2, 2, 3, 9, 1, 4]).numpy()
    shares = list(share_out(counts, 4))
    assert [i for part in shares for i in range(*part.indices(len(counts)))] == list(range(len(counts)))
    assert all(counts[part].sum() <= 4 or part.stop - part.start == 1 for part in shares)
    assert [part.stop - part.start for part in share_out(counts.clip(max=1), 4)] == [4, 4, 1]


def classifier(**settings):
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "embedding_size": 16, "hidden_size": 24, "intermediate_size": 32}
    config = QuoremConfig(**sizes, num_hidden_layers=2, num_attention_heads=2, positions="rotary", **settings)
    model = QuoremForSequenceClassification(config).eval()
    torch.nn.init.normal_(model.classifier.out_proj.weight)
    return model


@pytest.mark.parametrize("layers", ["last", "all"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_windows_are_pooled_like_one_document(pooling, layers):
    """Encode each window alone, without padding; pool the states of all its tokens at once."""
    model = classifier(
        classifier_length=12, classifier_truncation="windows", classifier_pooling=pooling, classifier_layers=layers
    )
    rows, expected = documents(), []
    with torch.no_grad():
        for row in rows:
            states = []
            for piece in by_hand(row, 12, "windows"):
                found = model.electra(torch.tensor([piece]), output_hidden_states=True)
                chosen = found.hidden_states if layers == "all" else found.hidden_states[-1:]
                states.append(torch.cat(chosen, -1)[0])
            every, firsts = torch.cat(states), torch.stack([each[0] for each in states])
            pooled = {"mean": every.mean(0), "max": every.amax(0), "cls": firsts.mean(0)}[pooling]
            expected.append(model.classifier(pooled))
        for left, extra in ((False, 0), (False, 9), (True, 4)):
            ids, mask = padded(rows, left=left, extra=extra)
            torch.testing.assert_close(model(ids, mask).logits, torch.stack(expected), rtol=1e-4, atol=1e-4)


def test_a_document_of_many_windows_has_the_same_scores_in_parts():
    model = classifier(classifier_length=4, classifier_truncation="windows", classifier_pooling="mean")
    row = torch.tensor([[CLS, *(10 + i % 50 for i in range(2 * PIECES_AT_ONCE + 5)), SEP]])
    parted = torch.no_grad()(model)(row).logits
    torch.testing.assert_close(parted, model(row).logits.detach())


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_document_that_fits_has_the_scores_it_has_without_windows(pooling):
    model = classifier(classifier_length=100, classifier_truncation="windows", classifier_pooling=pooling)
    plain = classifier(classifier_pooling=pooling)
    plain.load_state_dict(model.state_dict())
    ids, mask = padded(documents())
    torch.testing.assert_close(model(ids, mask).logits, plain(ids, mask).logits)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_gradients_reach_every_window(pooling):
    model = classifier(classifier_length=6, classifier_truncation="windows", classifier_pooling=pooling)
    ids = torch.tensor([[CLS, *range(10, 40), SEP]])
    model(ids).logits[0, 0].backward()
    touched = model.electra.embeddings.word_embeddings.weight.grad.abs().sum(1) > 0
    assert touched[10:40].float().mean() > (0.9 if pooling != "max" else 0.5)
