import pytest

from posestill.cluster.shards import Shard
from posestill.engine.log import RunLog
from posestill.schema import UserError
from posestill.study import errands
from posestill.study.division import Division
from posestill.study.errands import measure_lengths, prepare
from posestill.study.jobs import Asked, Resolver, screening
from posestill.study.pool import Workshop
from posestill.study.results import Results
from tests.study.plans import small_plan

PREPARED = {"recipe": "protocol/synthetic"}
PLAN = small_plan(
    prepare={"first": PREPARED, "unused": PREPARED, "second": {**PREPARED, "set": ["model.init_from=<first>"]}},
    arms={"tcd": {"title": "TCD", "set": ["model.init_from=<second>"]}, "longer": {"title": "longer", "length": 2}},
    learning_rates=[1e-3],
)
JOBS = Resolver(PLAN).jobs(screening(PLAN, {(name, arm): 1e-3 for name in PLAN.regimes for arm in PLAN.arms}))


@pytest.fixture
def trained(monkeypatch):
    """The names of what was trained, each of which leaves a folder."""
    names = []

    def train(task):
        names.append(task.name)
        (task.folder / "best").mkdir(parents=True)
        return {"step": 1, "conditions": {}}

    monkeypatch.setattr(errands, "_train_prepared", train)
    return names


def prepared(folder, shard=Shard(1, 1), *, work="work", own=JOBS):
    shop = Workshop(results=folder / "results", work=folder / work, shard=shard)
    results, log = Results.read(shop.results), RunLog(None, quiet=True)
    prepare(PLAN, JOBS, shop, results, log, Division(PLAN, shop, results, log), own=own)


def test_what_jobs_need_is_trained_once_and_what_that_needs_before_it(tmp_path, trained):
    prepared(tmp_path)
    prepared(tmp_path)
    assert trained == ["first", "second"]


def test_a_shard_trains_its_share_and_names_who_has_the_rest(tmp_path, trained):
    with pytest.raises(
        UserError, match=r"^shard 3/3 cannot go on without the prepared model first of shard 1/3: run th"
    ):
        prepared(tmp_path, Shard(3, 3))  # which has the third one
    prepared(tmp_path, Shard(1, 3), own=())
    assert trained == ["first"]
    prepared(tmp_path, Shard(3, 3))
    assert trained == ["first", "second"]
    prepared(tmp_path, Shard(2, 3))  # it has what nobody needs
    assert trained == ["first", "second"]


def test_a_shard_that_does_not_see_the_others_models_trains_them_for_itself(tmp_path, trained):
    prepared(tmp_path)
    prepared(tmp_path, Shard(2, 2), work="elsewhere")
    assert trained == ["first", "second"] * 2


def test_a_prepared_model_of_another_plan_is_not_taken_for_this_ones(tmp_path, trained):
    prepared(tmp_path)
    changed = small_plan(
        prepare={**PLAN.model_dump()["prepare"], "first": {**PREPARED, "set": ["train.steps=7"]}},
        arms=PLAN.model_dump(exclude_unset=True)["arms"], learning_rates=[1e-3],
    )  # fmt: skip
    shop = Workshop(results=tmp_path / "results", work=tmp_path / "work")
    results, log = Results.read(shop.results), RunLog(None, quiet=True)
    with pytest.raises(UserError, match=r"^prepare\.first: train\.steps was 1500 and is now 7\. A changed plan gets"):
        prepare(changed, JOBS, shop, results, log, Division(changed, shop, results, log), own=JOBS)
    assert trained == ["first", "second"]


def test_a_length_that_was_measured_beside_another_arm_is_refused(tmp_path):
    way = {"title": "t", "control": "alone", "as_long_as": "tcd", "tuned_as": "alone"}
    arms = {"tcd": {"title": "TCD"}, "ocd": {"title": "OCD"}, "in_time": way}
    plan = small_plan(arms=arms, regimes={"few": {"recipe": "protocol/synthetic"}})
    shop = Workshop(results=tmp_path / "results", work=tmp_path / "work")
    results, log = Results.read(shop.results), RunLog(None, quiet=True)
    results.add_length("few", "in_time", {"as_long_as": "ocd", "ratio": 3.0})
    with pytest.raises(UserError, match=r"in_time\.as_long_as is tcd, and its length in few was measured beside ocd"):
        measure_lengths(
            plan, [Asked("tune", "few", "in_time", 1e-3, 7)], shop, results, log, Division(plan, shop, results, log)
        )
