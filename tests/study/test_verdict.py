from dataclasses import replace

import pytest

from posestill.study.gains import Cell
from posestill.study.intervals import Difference
from posestill.study.t_distribution import Errors
from posestill.study.verdict import is_gain, verdict_of
from tests.study.plans import small_plan


def gain(mean, *, seeds):
    return Difference(
        mean=mean, low=mean - 0.01, high=mean + 0.01, p=0.01, seeds=seeds, persons=50, standard_error=0.005,
        degrees_of_freedom=10.0, errors=Errors(seed=0.003, person=0.004, seeds=seeds, persons=50),
    )  # fmt: skip


def cell(arm, mean_oks, gains=(), *, regime="few", seeds=(1, 2, 3), p=0.01):
    return Cell(
        regime=regime, arm=arm, learning_rate=1e-3, seeds=seeds, mean_oks=mean_oks, spread=None, average_precision=0.1,
        training_seconds=1.0, gains={name: gain(value, seeds=len(seeds)) for name, value in dict(gains).items()},
        adjusted=dict.fromkeys(dict(gains), p), gap_closed=None, spreads=None, per_keypoint={},
    )  # fmt: skip


def test_the_first_arm_of_a_regime_is_named_with_what_it_gained_over_each_reference():
    cells = [cell("alone", 0.5), cell("tcd", 0.6, {"alone": 0.1, "pseudo_label": 0.05})]
    first, worth = verdict_of(small_plan(), cells, split="test")
    assert first == (
        "In few, TCD comes first with mean OKS 60.0: a gain of +10.0 [+9.0, +11.0] over student alone, and a gain of "
        "+5.0 [+4.0, +6.0] over pseudo-labels."
    )
    assert worth.startswith("Confirmed on test: up to 3 seeds, 95 % intervals over seeds and persons; a gain counts ")


def test_what_cannot_be_told_from_a_reference_is_called_so():
    cells = [cell("alone", 0.5), cell("tcd", 0.51, {"alone": 0.01}, p=0.4)]
    assert "TCD comes first with mean OKS 51.0: not to be told from student alone (+1.0 [+0.0, +2.0])." in verdict_of(
        small_plan(), cells, split="test"
    )[0]  # fmt: skip
    assert not is_gain(cells[1], "alone")
    assert not is_gain(cells[0], "alone")
    assert is_gain(cell("tcd", 0.6, {"alone": 0.1}), "alone")
    assert not is_gain(cell("tcd", 0.4, {"alone": -0.1}), "alone")


def test_where_the_baseline_comes_first_nothing_gained():
    cells = [cell("alone", 0.7), cell("tcd", 0.6, {"alone": -0.1})]
    said = verdict_of(small_plan(), cells, split="test")[0]
    assert said == (
        "In few, student alone, which all others are measured from, comes first with mean OKS 70.0: nothing gained "
        "over it."
    )
    assert "no other arm has run there yet" in verdict_of(small_plan(), cells[:1], split="test")[0]


@pytest.mark.parametrize(
    ("split", "regime", "seeds", "said"),
    [
        (
            "tune",
            "few",
            (7,),
            "This is a screening, judged by the persons that learning rates were chosen by and with one",
        ),
        ("tune", "few", (7, 8), "This is a screening, judged by the persons that learning rates were chosen by."),
        ("test", "many", (1, 2), "Repeated, but not on persons of their own: up to 2 seeds"),
    ],
)
def test_the_last_sentence_says_what_the_others_are_worth(split, regime, seeds, said):
    cells = [
        cell("alone", 0.5, regime=regime, seeds=seeds),
        cell("tcd", 0.6, {"alone": 0.1}, regime=regime, seeds=seeds),
    ]
    found = verdict_of(small_plan(), cells, split=split)
    assert found[-1].startswith(said)
    if len(seeds) == 1:
        assert "+10.0 [+9.0, +11.0] over student alone with one seed" in found[0]


def test_of_many_regimes_those_in_which_an_arm_gains_are_counted():
    regimes = {f"r{number}": {"recipe": "protocol/synthetic"} for number in range(5)}
    plan = small_plan(regimes=regimes, confirm={})
    cells = []
    for number, regime in enumerate(regimes):
        cells += [cell("alone", 0.5, regime=regime), cell("longer", 0.5, {"alone": 0.0}, regime=regime, p=0.9)]
        cells.append(replace(cell("tcd", 0.6, {"alone": 0.1}, p=0.01 if number < 3 else 0.2), regime=regime))
    first, others, _ = verdict_of(plan, cells, split="tune")
    assert first == "Over 5 regimes: TCD gains over student alone in 3 of 5 regimes."
    assert others == "longer gains over student alone in 0 of 5 regimes."
    nobody = [each for each in cells if each.arm == "alone"]
    assert verdict_of(plan, nobody, split="tune")[0] == "No arm can be compared with student alone yet."
