"""transformers' Trainer: it trains compositional tables and exact softmaxes, accumulates right, saves and loads."""

import pytest
import torch
from export_cases import make_tokenizer
from interop_cases import HEADS, VOCAB_SIZE, make, save
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

ROWS = 16


def rows(name):
    """Rows of 8 tokens; of a classifier the label says whether the first is below 100."""
    ids = torch.randint(5, VOCAB_SIZE, (ROWS, 8), generator=torch.Generator().manual_seed(1))
    found = [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in ids]
    labels = {
        "classifier": [int(row[0] < 100) for row in ids],
        "discriminator": list((ids < 100).long()),
        "next item": list(ids),
    }
    return [row | {"labels": label} for row, label in zip(found, labels.get(name, [None] * ROWS), strict=True)]


def arguments(folder, **changes):
    given = {"per_device_train_batch_size": 8, "max_steps": 5, "learning_rate": 1e-2, "lr_scheduler_type": "constant"}
    quiet = {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "save_strategy": "no"}
    return TrainingArguments(output_dir=str(folder), **(quiet | given | changes))


def without_dropout(model):
    model.config.hidden_dropout_prob = 0.0
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


@pytest.mark.parametrize("name", ["classifier", "discriminator", "next item"])
def test_five_steps_learn_and_what_is_saved_loads(name, tmp_path):
    model, data = without_dropout(make(name)), rows(name)
    trainer = Trainer(model, arguments(tmp_path, save_strategy="steps", save_steps=5), train_dataset=data)
    before = trainer.evaluate(data)["eval_loss"]
    table = model.get_input_embeddings().quotient.clone()
    trainer.train()
    after = trainer.evaluate(data)["eval_loss"]
    assert after < before
    assert not torch.equal(model.get_input_embeddings().quotient, table)
    again = HEADS[name].auto.from_pretrained(tmp_path / "checkpoint-5")
    found = Trainer(again, arguments(tmp_path)).evaluate(data)["eval_loss"]
    assert found == pytest.approx(after, rel=1e-5)


@pytest.mark.filterwarnings("ignore:.*pin_memory:UserWarning")
def test_masked_language_modelling_of_its_collator_trains_the_generator(tmp_path):
    model = without_dropout(make("generator, tree"))
    collator = DataCollatorForLanguageModeling(make_tokenizer(), mlm_probability=0.3)
    data = [{"input_ids": torch.full((8,), 77)} for _ in range(ROWS)]
    trainer = Trainer(model, arguments(tmp_path, max_steps=10), train_dataset=data, data_collator=collator)
    before = trainer.evaluate(data)["eval_loss"]
    trainer.train()
    assert trainer.evaluate(data)["eval_loss"] < before / 2


@pytest.mark.parametrize("name", ["classifier", "discriminator"])
def test_micro_batches_change_no_step(name, tmp_path):
    found = []
    for size, micro in ((8, 1), (2, 4)):
        model = without_dropout(make(name))
        changes = {"per_device_train_batch_size": size, "gradient_accumulation_steps": micro, "max_steps": 1}
        plain = {"optim": "sgd", "max_grad_norm": 0.0, "learning_rate": 0.5}
        Trainer(model, arguments(tmp_path, **changes, **plain), train_dataset=rows(name)).train()
        found.append(model.electra.encoder.layer[0].attention.self.query.weight.detach())
    torch.testing.assert_close(*found, atol=1e-6, rtol=1e-4)


def test_a_folder_of_pre_training_is_where_trainer_starts(tmp_path):
    folder = save("discriminator", tmp_path / "discriminator")
    model = HEADS["classifier"].auto.from_pretrained(folder, num_labels=2)
    source = make("discriminator")
    torch.testing.assert_close(model.get_input_embeddings().quotient, source.get_input_embeddings().quotient)
    trainer = Trainer(model, arguments(tmp_path, max_steps=2), train_dataset=rows("classifier"))
    trainer.train()
    assert trainer.predict(rows("classifier")).predictions.shape == (ROWS, 2)
