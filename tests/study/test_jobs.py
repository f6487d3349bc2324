from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from posestill import catalog, schema
from posestill.data.synthetic.people import SyntheticConfig
from posestill.engine.config import change_run, load_plugin, load_run
from posestill.engine.log import RunLog
from posestill.engine.setup import Sources, try_one_batch
from posestill.models.pose_model import PoseModel
from posestill.schema import UserError
from posestill.study.jobs import Asked, Resolver, at_hand, chosen_rates, confirming, screening, tuning
from posestill.study.plan import load_plan
from tests.study.plans import small_plan

PLUGINS = {"protocol-ocd": "ocd_variants.py", "protocol-agentpose": "agentpose_controls.py"}
PROTOCOL = Path(__file__).parents[2] / "benchmarks" / "protocol.yaml"


def tuned(rate_of_best: dict[str, float]) -> list[dict]:
    return [
        {"split": "tune", "regime": "few", "arm": arm, "seed": 7, "learning_rate": rate,
         "metrics": {"mean_oks": 0.6 if rate == best else 0.5}}
        for arm, best in rate_of_best.items() for rate in (1e-3, 4e-3)
    ]  # fmt: skip


def test_tuning_tries_the_same_rates_for_every_arm_that_is_tuned():
    jobs = Resolver(small_plan()).jobs(tuning(small_plan()))
    assert {(job.regime, job.seed, job.split) for job in jobs} == {("few", 7, "tune")}
    tried = {}
    for job in jobs:
        tried.setdefault(job.arm, set()).add(job.learning_rate)
        assert job.config.train.optimiser.learning_rate == job.learning_rate
    assert tried == {arm: {1e-3, 4e-3} for arm in ("alone", "pseudo_label", "tcd")}
    assert tuning(small_plan(learning_rates=[1e-3])) == []


def test_rates_are_chosen_on_tune_and_lent_to_regimes_and_arms_that_borrow_them():
    rates = chosen_rates(small_plan(), tuned({"alone": 4e-3, "pseudo_label": 1e-3, "tcd": 1e-3}))
    assert rates["few", "alone"] == rates["few", "longer"] == rates["many", "alone"] == rates["many", "longer"] == 4e-3
    assert rates["few", "tcd"] == rates["many", "tcd"] == 1e-3
    assert ("many", "pseudo_label") not in rates
    two_seeds = small_plan(seeds={"choose": [7, 8], "confirm": [1, 2, 3]})
    with pytest.raises(UserError, match=r"few alone lacks \[0.001, 0.004\]"):  # of which seed 8 is not there
        chosen_rates(two_seeds, tuned({"alone": 4e-3, "pseudo_label": 1e-3, "tcd": 1e-3}))
    with pytest.raises(UserError, match=r"few tcd lacks \[0.001, 0.004\]"):
        chosen_rates(small_plan(), tuned({"alone": 4e-3, "pseudo_label": 1e-3}))


def test_screening_covers_everything_once_and_confirmation_opens_test_for_few_arms_and_many_seeds():
    rates = chosen_rates(small_plan(), tuned({"alone": 4e-3, "pseudo_label": 1e-3, "tcd": 1e-3}))
    resolver, asked = Resolver(small_plan()), screening(small_plan(), rates)
    assert [(each.regime, each.arm) for each in asked] == [
        *(("few", arm) for arm in ("alone", "pseudo_label", "tcd", "longer")),
        *(("many", arm) for arm in ("alone", "tcd", "longer")),
    ]
    confirmed = resolver.jobs(confirming(small_plan(), rates))
    assert [(job.seed, job.arm) for job in confirmed] == [(seed, arm) for seed in (1, 2, 3) for arm in ("alone", "tcd")]
    assert all(job.split == "test" and job.config.data.val.seed == 9 for job in confirmed)
    assert all(job.config.data.val.seed == 3000 for job in resolver.jobs(asked))


def test_a_regime_may_be_confirmed_with_seeds_of_its_own():
    rates = {("few", arm): 1e-3 for arm in ("alone", "pseudo_label", "tcd", "longer")}
    few = {"recipe": "protocol/synthetic", "seeds": [2]}
    mine = small_plan(regimes={"few": few})
    assert [(each.arm, each.seed) for each in confirming(mine, rates)] == [("alone", 2), ("tcd", 2)]
    assert mine.protocol_hash() != small_plan(regimes={"few": {"recipe": "protocol/synthetic"}}).protocol_hash()


def test_arms_share_seed_student_steps_and_data_and_a_longer_control_only_its_length():
    jobs = {
        arm: Resolver(small_plan()).job(Asked("tune", "few", arm, learning_rate=1e-3, seed=5))
        for arm in small_plan().arms
    }
    for arm, job in jobs.items():
        assert job.config.model == jobs["tcd"].config.model
        assert job.config.seed == 5
        assert job.config.data.train == jobs["tcd"].config.data.train
        assert job.config.train.steps == (3000 if arm == "longer" else 1500)
    assert jobs["alone"].config.teacher is None
    assert jobs["alone"].config.data.labelled_per_batch == 32
    assert jobs["pseudo_label"].config.teacher == jobs["tcd"].config.teacher
    assert jobs["pseudo_label"].config.data == jobs["tcd"].config.data


def test_a_control_that_gets_a_methods_time_is_as_long_as_was_measured():
    way = {"title": "t", "control": "alone", "as_long_as": "tcd", "tuned_as": "alone"}
    mine = small_plan(arms={"tcd": {"title": "TCD"}, "in_time": way}, regimes={"few": {"recipe": "protocol/synthetic"}})
    asked = Asked("tune", "few", "in_time", learning_rate=1e-3, seed=1)
    steps = Resolver(mine).job(replace(asked, arm="alone")).config.train.steps
    lengths = {("few", "in_time"): {"as_long_as": "tcd", "ratio": 1.37}}
    assert Resolver(mine, lengths).job(asked).config.train.steps == int(1.37 * steps)
    with pytest.raises(UserError, match="the length of in_time in few is not measured yet"):
        Resolver(mine).job(asked)
    double = small_plan(
        arms={"tcd": {"title": "TCD", "length": 2}, "in_time": way}, regimes={"few": {"recipe": "protocol/synthetic"}}
    )
    assert Resolver(double, lengths).job(asked).config.train.steps == int(2 * 1.37 * steps)


def test_a_prepared_model_has_its_name_in_the_settings_and_its_folder_in_the_training():
    mine = small_plan(
        prepare={"big": {"recipe": "bundled-teacher"}},
        arms={
            "tcd": {"title": "t", "set": ["teacher=<big>", "model.init_from=<big>#backbone"]},
            "longer": {"title": "l"},
        },
    )
    job = Resolver(mine).job(Asked("tune", "few", "tcd", learning_rate=1e-3, seed=1))
    assert job.settings["teacher"]["name"] == "<big>"
    # a path that would be something else in YAML
    trained = at_hand(job.config, {"big": Path("my: [models]/best")})
    assert trained.teacher.path == Path("my: [models]/best")
    assert str(trained.model.init_from) == "my: [models]/best#backbone"
    assert trained.model_copy(update={"teacher": None, "model": None}) == job.config.model_copy(
        update={"teacher": None, "model": None}
    )


def test_runs_are_the_same_where_all_their_settings_and_the_version_of_their_method_are(monkeypatch):
    mine = small_plan(arms={"tcd": {"title": "t"}, "again": {"title": "t"}, "longer": {"title": "l"}})
    jobs = {arm: Resolver(mine).job(Asked("tune", "few", arm, 1e-3, 1)) for arm in ("tcd", "again", "alone")}
    assert jobs["tcd"].identity == jobs["again"].identity != jobs["alone"].identity
    before = jobs["tcd"].identity
    monkeypatch.setattr(type(jobs["tcd"].config.method), "version", 2)
    assert jobs["tcd"].version == 2
    assert jobs["tcd"].identity != before


def test_the_protocol_asks_for_at_most_150_runs():
    protocol = load_plan(PROTOCOL)
    rates = {(regime, arm): 5e-3 for regime in protocol.regimes for arm in protocol.arms_of(regime)}
    asked = [*tuning(protocol), *screening(protocol, rates), *confirming(protocol, rates)]
    assert len({each.name for each in asked}) <= 150
    assert len(protocol.seeds.confirm) == 8
    assert not set(protocol.seeds.confirm) & set(protocol.seeds.choose)
    assert yaml.safe_load(PROTOCOL.read_text())["learning_rates"] == [2e-3, 5e-3, 1.2e-2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "protocol",
        "protocol-gpu",
        "protocol-distilpose",
        "protocol-ocd",
        "protocol-agentpose",
        pytest.param("protocol-distilpose-gpu", marks=pytest.mark.slow),
    ],
)
def test_every_arm_of_a_published_plan_fits_together(name, tmp_path, monkeypatch):
    """One small batch goes through every arm of every regime; only data and prepared weights are replaced."""
    monkeypatch.setattr(catalog, "METHODS", dict(catalog.METHODS))
    monkeypatch.setitem(schema._TABLES, "methods", catalog.METHODS)
    if name in PLUGINS:
        load_plugin(PROTOCOL.with_name(PLUGINS[name]))
    published = load_plan(PROTOCOL.with_name(f"{name}.yaml"))
    folders = {prepared: tmp_path / prepared for prepared in published.prepare}
    for prepared, run in published.prepare.items():
        settings = at_hand(load_run(run.recipe, run.set), folders)
        PoseModel(settings.model, people_like(settings).skeleton).save(folders[prepared])
    seen, resolver = set(), Resolver(published)
    for regime in published.regimes:
        for arm in published.arms_of(regime):
            job = resolver.job(Asked("tune", regime, arm, learning_rate=1e-3, seed=0))
            run = change_run(at_hand(job.config, folders), ["train.batch_size=4", "data.labelled=4", "data.crops=null"])
            per_batch = run.data.labelled_per_batch and min(
                run.data.labelled_per_batch, 4 if run.teacher is None else 2
            )
            run = change_run(run, [f"data.labelled_per_batch={per_batch or 'null'}"])
            if run.teacher is not None and name == "protocol-gpu":
                run = change_run(run, [f"teacher={folders['teacher']}"])
            if (parts := (str(run.model), str(run.method), str(run.teacher))) in seen:
                continue
            seen.add(parts)
            people = people_like(run)
            losses = try_one_batch(run, Sources(people, people), log=RunLog(None, quiet=True))
            assert all(0 <= value < 100 for value in losses.values()), (regime, arm, losses)


def people_like(run):
    """Eight synthetic people with as many keypoints as the run's."""
    return SyntheticConfig(people=8, keypoints=getattr(run.data.train, "keypoints", 17)).build()
