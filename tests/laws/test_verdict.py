from quorem.pretrain import verdict


def test_a_verdict_is_not_about_one_lucky_step():
    entropies = {"unigram_entropy": 7.0, "base_rate_entropy": 0.4}
    losses = [(20, 9.0, 0.9), (40, 7.2, 0.4), (41, 6.0, 0.1)]
    records = [{"step": step, "mlm_loss": mlm, "rtd_loss": rtd, **entropies} for step, mlm, rtd in losses]
    told = verdict(records)
    assert "nothing beyond word frequencies: mlm loss 7.143" in told
    assert "more than the base rate: rtd loss 0.386" in told
    assert "last 21 steps" in told
    assert "mlm loss 9.000" in verdict(records[:1])
    assert verdict([*records, {"step": 43, "skipped_steps": 2}]) == told
    assert "no step could be used" in verdict([{"step": 43, "skipped_steps": 43}])
