from posestill.methods.tcd import TcdConfig
from posestill.study.agreement import agreement, difference_of
from posestill.study.jobs import Asked, Resolver, chosen_rates, confirming, screening, tuning
from tests.study.plans import small_plan, small_row


def all_rows(plan=None):
    """A row for every run that the plan asks for."""
    plan = plan or small_plan()
    rows = {each.name: small_row(each, plan) for each in tuning(plan)}
    rates = chosen_rates(plan, list(rows.values()))
    rows |= {each.name: small_row(each, plan) for each in [*screening(plan, rates), *confirming(plan, rates)]}
    return list(rows.values())


def test_a_row_from_before_a_setting_was_there_agrees_while_that_has_its_default():
    asked = Asked("tune", "few", "tcd", 1e-3, 7)
    row = small_row(asked)
    older = {**row["settings"], "data": {**row["settings"]["data"]}}
    del older["data"]["unlabelled_people"]
    assert difference_of({**row, "settings": older}, Resolver(small_plan()).job(asked)) is None
    arms = {"tcd": {"title": "t", "set": ["data.unlabelled_people=true"]}, "longer": {"title": "l"}}
    found = difference_of({**row, "settings": older}, Resolver(small_plan(arms=arms)).job(asked))
    assert found == "data.unlabelled_people was not there and is now true"


def test_the_same_settings_under_another_version_of_the_method_are_another_run(monkeypatch):
    asked = Asked("tune", "few", "tcd", 1e-3, 7)
    row = small_row(asked)
    assert difference_of(row, Resolver(small_plan()).job(asked)) is None
    monkeypatch.setattr(TcdConfig, "version", 2)
    found = difference_of(row, Resolver(small_plan()).job(asked))
    assert found == "the method's version was 1 and is now 2"


def test_a_plan_and_its_rows_agree():
    # tuning 3 arms x 2 rates; screening 3 of those again, one longer and 3 elsewhere; confirmation 2 arms x 3 seeds
    assert agreement(small_plan(), all_rows()).sentences() == [
        "16 of 16 rows agree with the plan, in all settings and the method's version."
    ]


def test_what_does_not_agree_is_counted_and_the_first_of_each_kind_named():
    rows = all_rows()
    changed = small_plan(
        arms={"tcd": {"title": "TCD", "set": ["method.threshold=0.3"]}, "longer": {"title": "l", "tuned_as": "alone"}},
        seeds={"choose": [7], "confirm": [2, 3, 4]},
    )
    assert agreement(changed, rows).sentences() == [
        "8 of 16 rows agree with the plan, in all settings and the method's version.",
        "The first that does not is tune/few/tcd-lr0.001-seed7: method.threshold was 0.2 and is now 0.3.",
        "Rows that no stage asks for: 2, the first test/few/alone-lr0.001-seed1.",
        "Runs that are asked for and have no row: 2, the first test/few/alone-lr0.001-seed4.",
    ]


def test_rows_whose_arm_is_no_longer_in_the_plan_or_cannot_be_resolved_are_told_apart():
    plan = small_plan(
        arms={
            "tcd": {"title": "t", "set": ["method={name: gone}"]},
            "other": {"title": "t", "set": ["method={name: gone}"]},
        },
        regimes={"few": {"recipe": "protocol/synthetic", "set": ["data.labelled=100"], "test": ["data.val.seed=9"]}},
    )
    rows = [row for row in all_rows() if row["regime"] == "few"]
    rows.append({**rows[2], "arm": "other"})
    first, second, *rest, last = agreement(plan, rows).sentences()
    assert first == "7 of 14 rows agree with the plan, in all settings and the method's version."
    assert second.startswith("Rows of arms that today's code cannot resolve: 6 (tcd, other): ")
    assert "no 'gone' among the methods" in second
    assert rest == [
        "Rows that no stage asks for: 1, the first tune/few/longer-lr0.001-seed7.",
        "Runs that are asked for and have no row: 1, the first tune/few/other-lr0.004-seed7.",
    ]
    assert last == (
        "What screening and confirmation ask for is not known yet: the tuning of few other lacks [0.004]: run the "
        "plan's tuning first."
    )


def test_while_tuning_is_not_over_no_row_is_said_to_be_too_much():
    rows = all_rows()
    found = agreement(small_plan(), [row for row in rows if row["learning_rate"] == 1e-3])
    assert found.agreeing == found.rows == 13
    assert found.strange == []
    assert found.missing == [f"tune/few/{arm}-lr0.004-seed7" for arm in ("alone", "pseudo_label", "tcd")]
    assert "lacks [0.004]" in found.unknown
