import base64
import zlib

import numpy as np
import pytest

from posestill.schema import validate
from posestill.study.gains import compare_rows, gain_over, pack_similarity, slope_of_gain, unpack_similarity
from posestill.study.plan import Plan


def test_similarities_are_kept_to_a_ten_thousandth():
    values = np.array([0.0, 1.0, 0.12345, np.nan])
    packed = pack_similarity(values)
    assert np.frombuffer(zlib.decompress(base64.b64decode(packed)), dtype="<i2").tolist() == [0, 10000, 1234, -1]
    np.testing.assert_allclose(unpack_similarity("0 10000 1234 -"), unpack_similarity(packed))  # as it was at first
    assert len(unpack_similarity(pack_similarity(np.array([])))) == 0
    np.testing.assert_allclose(unpack_similarity(pack_similarity(values)), values, atol=5.1e-5)


def row(arm, seed, level, regime="few", rate=1e-3):
    rng = np.random.default_rng(0)
    return {
        "split": "test", "regime": regime, "arm": arm, "seed": seed, "learning_rate": rate,
        "similarity": pack_similarity(np.clip(rng.normal(0.5, 0.1, 200) + level, 0, 1)),
        "training_seconds": 10.0 * seed,
        "metrics": {"mean_oks": 0.5 + level, "AP": 0.1}, "per_keypoint": {"nose": {"PCK": 0.5}},
    }  # fmt: skip


def test_gains_are_over_the_seeds_that_both_arms_have():
    rows = {seed: row("tcd", seed, 0.02 + 0.01 * seed) for seed in (1, 2, 3)}
    gain = gain_over(rows, {seed: row("alone", seed, 0.0) for seed in (2, 3, 4)})
    assert gain.seeds == 2
    assert gain.mean == pytest.approx(0.045, abs=1e-3)


def test_the_slope_of_a_gain_is_that_of_the_line_through_the_regimes():
    at, noise = [0.6, 0.8, 0.9], np.random.default_rng(1).normal(0, 0.01, (3, 2))
    alone = [{seed: row("alone", seed, 0.0) for seed in (1, 2, 9)} for _ in at]
    taught = [
        {seed: row("tcd", seed, 0.3 * place + moved) for seed, moved in zip((1, 2), moves, strict=True)}
        for place, moves in zip(at, noise, strict=True)
    ]
    levels = [np.mean([unpack_similarity(each["similarity"]) for each in runs.values()]) for runs in taught]
    slope = slope_of_gain(taught, alone, at)
    assert slope.mean == pytest.approx(np.polyfit(at, levels, 1)[0])
    assert slope.seeds == 2
    with pytest.raises(ValueError, match="two places"):
        slope_of_gain(taught[:1], alone[:1], at[:1])


def test_cells_take_runs_of_the_chosen_rate_only_and_holm_counts_the_arms():
    content = {"regimes": {"few": {"recipe": "protocol/synthetic"}}, "arms": {"tcd": {"title": "TCD"}},
               "learning_rates": [1e-3, 9e-3]}  # fmt: skip
    plan = validate(Plan, content, where="test")
    rows = [row(arm, seed, level + 0.002 * seed * (arm == "tcd"))
            for arm, level in (("alone", 0.0), ("tcd", 0.05), ("pseudo_label", 0.0)) for seed in (1, 2, 3)]  # fmt: skip
    rows.append(row("tcd", 4, 0.9, rate=9e-3))
    rates = {("few", arm): 1e-3 for arm in plan.arms}
    cells = {cell.arm: cell for cell in compare_rows(plan, rows, "test", rates)}
    assert cells["tcd"].seeds == (1, 2, 3)
    assert cells["tcd"].training_seconds == 20
    assert cells["tcd"].spread == pytest.approx(0.002)
    assert cells["tcd"].adjusted["alone"] == pytest.approx(2 * cells["tcd"].gains["alone"].p)
    assert cells["pseudo_label"].adjusted["alone"] == 1
