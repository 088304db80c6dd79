import pytest

from quorem.pretraining.verdict import Watch, verdict


def test_a_verdict_is_not_about_one_lucky_step():
    entropies = {"unigram_entropy": 7.0, "base_rate_entropy": 0.4}
    losses = [(20, 9.0, 0.9), (40, 7.2, 0.4), (41, 6.0, 0.1)]
    records = [{"step": step, "mlm_loss": mlm, "rtd_loss": rtd, **entropies} for step, mlm, rtd in losses]
    told = verdict(records)
    assert "nothing beyond word frequencies: mlm loss 7.143" in told
    assert "little more than the base rate: rtd loss 0.386" in told
    assert "learned more than the base rate" in verdict([*records, {**records[-1], "step": 61, "rtd_loss": 0.1}])
    assert "last 21 steps" in told
    assert "mlm loss 9.000" in verdict(records[:1])
    assert verdict([*records, {"step": 43, "skipped_steps": 2}]) == told
    assert "no step changed the weights" in verdict([{"step": 43, "skipped_steps": 43}])
    assert "is damaged where the last steps are" in verdict([records[0] | {"rtd_loss": "x"}])


def record(step, *, share=0.12, rtd=0.3, base_rate=0.4):
    found = {"step": step, "mlm_loss": 5.0, "unigram_entropy": 7.0, "rtd_loss": rtd, "base_rate_entropy": base_rate}
    return found | {"share_replaced": share}


def told(caplog, records, *, total_steps=1000, warmup_steps=50):
    watch = Watch(total_steps, warmup_steps)
    found = []
    for each in records:
        caplog.clear()
        watch.look(each)
        found += [(each["step"], line.message) for line in caplog.records]
    return found


@pytest.mark.parametrize(
    ("wrong", "words", "from_step"),
    [
        ({"share": 0.03}, "only 3.0 % of tokens were replaced", 60),
        ({"share": 0.0, "rtd": 0.0, "base_rate": 0.0}, "no token was replaced", 60),
        ({"share": 1.0, "rtd": 0.0, "base_rate": 0.0}, "every token was replaced", 60),
        ({"rtd": 0.398}, "the discriminator learned only the base rate", 500),
    ],
    ids=["few", "none", "all", "base rate"],
)
def test_a_run_is_doubted_once_when_it_has_had_time_and_at_its_end(caplog, wrong, words, from_step):
    steps = range(20, 1001, 20)
    found = told(caplog, [record(step, **wrong) for step in steps])
    assert [step for step, _ in found] == [from_step, 1000]
    assert all(words in message for _, message in found)
    assert told(caplog, [record(step) for step in steps]) == []
    # one bad line among good ones is noise, if lines are short
    assert told(caplog, [record(step, **(wrong if step == 700 else {})) for step in range(1, 900)]) == []


def test_a_run_that_goes_on_is_doubted_as_if_it_had_not_stopped(caplog):
    earlier = [record(step) for step in range(1, 503)]  # those of steps 501 and 502 are of before it was resumed
    watch = Watch(1000, 50, earlier)
    watch.look(record(501, share=0.04))
    assert not caplog.records
    for step in range(502, 540):
        watch.look(record(step, share=0.04))
    (told,) = caplog.records
    assert "in the last 20 steps only" in told.getMessage()


def test_skipped_steps_are_no_doubt(caplog):
    assert told(caplog, [{"step": step, "skipped_steps": step} for step in (20, 40, 1000)]) == []


@pytest.mark.parametrize(("key", "rise"), [("mlm_loss", 1.2), ("rtd_loss", 0.6)])
def test_a_loss_that_rises_far_above_what_it_was_is_called_divergence(caplog, key, rise):
    records = [record(step) for step in range(20, 801, 20)]
    risen = [{**each, key: each[key] + (rise if each["step"] > 400 else 0)} for each in records]
    found = told(caplog, risen)
    assert [step for step, message in found if "training has diverged" in message] == [420]
    assert f"{key} rose from {records[0][key]:.2f} to" in next(message for _, message in found if "diverged" in message)
    slowly = [{**each, key: each[key] + (rise / 2 if each["step"] > 400 else 0)} for each in records]
    assert not [message for _, message in told(caplog, slowly) if "diverged" in message]
