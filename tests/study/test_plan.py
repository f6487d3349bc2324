from pathlib import Path

import pytest
import yaml

from posestill import catalog, schema
from posestill.data.synthetic.people import SyntheticConfig
from posestill.engine.config import change_run, load_plugin, load_run
from posestill.engine.log import RunLog
from posestill.engine.setup import Sources, try_one_batch
from posestill.models.pose_model import PoseModel
from posestill.schema import UserError, validate
from posestill.study.plan import (
    Plan,
    as_control,
    chosen_rates,
    confirming_jobs,
    filled,
    load_plan,
    make_job,
    screening_jobs,
    tuning_jobs,
)

PLUGINS = {"protocol-ocd": "ocd_variants.py", "protocol-agentpose": "agentpose_controls.py"}
PROTOCOL = Path(__file__).parents[2] / "benchmarks" / "protocol.yaml"


def plan(**changes) -> Plan:
    content = {
        "regimes": {
            "few": {"recipe": "protocol/synthetic", "set": ["data.labelled=100"], "test": ["data.val.seed=9"]},
            "many": {"recipe": "protocol/synthetic", "tuned_in": "few", "arms": ["alone", "longer", "tcd"]},
        },
        "arms": {
            "tcd": {"title": "TCD"},
            "longer": {"title": "longer", "control": "alone", "length": 2, "tuned_as": "alone"},
        },
        "learning_rates": [1e-3, 4e-3],
        "seeds": {"choose": [7], "confirm": [1, 2, 3]},
        "confirm": {"few": ["alone", "tcd"]},
        **changes,
    }
    return validate(Plan, content, where="test")


def tuned(rate_of_best: dict[str, float]) -> list[dict]:
    return [
        {"split": "tune", "regime": "few", "arm": arm, "seed": 7, "learning_rate": rate,
         "metrics": {"mean_oks": 0.6 if rate == best else 0.5}}
        for arm, best in rate_of_best.items() for rate in (1e-3, 4e-3)
    ]  # fmt: skip


def test_a_plan_has_its_controls_whether_it_names_them_or_not():
    assert list(plan().arms)[:2] == ["alone", "pseudo_label"]
    named = plan(arms={"alone": {"title": "mine", "control": "alone"}, "longer": {"title": "l"}, "tcd": {"title": "t"}})
    assert named.arms["alone"].title == "mine"


def test_tuning_tries_the_same_rates_for_every_arm_that_is_tuned():
    jobs = tuning_jobs(plan(), {})
    assert {(job.regime, job.seed, job.split) for job in jobs} == {("few", 7, "tune")}
    tried = {}
    for job in jobs:
        tried.setdefault(job.arm, set()).add(job.learning_rate)
        assert job.config.train.optimiser.learning_rate == job.learning_rate
    assert tried == {arm: {1e-3, 4e-3} for arm in ("alone", "pseudo_label", "tcd")}


def test_rates_are_chosen_on_tune_and_lent_to_regimes_and_arms_that_borrow_them():
    rates = chosen_rates(plan(), tuned({"alone": 4e-3, "pseudo_label": 1e-3, "tcd": 1e-3}))
    assert rates["few", "alone"] == rates["few", "longer"] == rates["many", "alone"] == rates["many", "longer"] == 4e-3
    assert rates["few", "tcd"] == rates["many", "tcd"] == 1e-3
    assert ("many", "pseudo_label") not in rates
    with pytest.raises(UserError, match=r"few tcd lacks \[0.001, 0.004\]"):
        chosen_rates(plan(), tuned({"alone": 4e-3, "pseudo_label": 1e-3}))


def test_screening_covers_everything_once_and_confirmation_opens_test_for_few_arms_and_many_seeds():
    rates = chosen_rates(plan(), tuned({"alone": 4e-3, "pseudo_label": 1e-3, "tcd": 1e-3}))
    screened = [(job.regime, job.arm) for job in screening_jobs(plan(), {}, rates)]
    assert screened == [("few", arm) for arm in ("alone", "pseudo_label", "tcd", "longer")] + [
        ("many", arm) for arm in ("alone", "tcd", "longer")
    ]
    confirmed = confirming_jobs(plan(), {}, rates)
    assert [(job.seed, job.arm) for job in confirmed] == [(seed, arm) for seed in (1, 2, 3) for arm in ("alone", "tcd")]
    assert all(job.split == "test" and job.config.data.val.seed == 9 for job in confirmed)
    assert all(job.config.data.val.seed == 3000 for job in screening_jobs(plan(), {}, rates))


def test_arms_share_seed_student_steps_and_data_and_a_longer_control_only_its_length():
    jobs = {
        arm: make_job(plan(), split="tune", regime="few", arm=arm, learning_rate=1e-3, seed=5, folders={})
        for arm in plan().arms
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


@pytest.mark.parametrize("control", ["alone", "pseudo_label"])
def test_a_kept_agent_is_the_methods_and_no_part_of_a_control(control):
    kept = load_run("coco/student-mobilenetv2-agentpose-keep")
    assert kept.model.neck is not None
    assert as_control(kept, control).model.neck is None


@pytest.mark.parametrize("control", ["alone", "pseudo_label"])
def test_a_control_leaves_out_the_score_that_only_the_method_trains(control):
    codec = as_control(load_run("coco/student-distilpose-s"), control).model.codec
    assert (codec.score, codec.scale, codec.bounded) == (False, True, True)


def test_a_control_of_a_run_in_epochs_takes_as_many_steps():
    run = load_run("protocol/synthetic", ["train.steps=null", "train.epochs=3"])
    # an epoch is one pass over 400 labels: 8 a batch is 50 steps, 32 a batch 12.5
    assert as_control(run, "alone").train.epochs == 12
    with pytest.raises(UserError, match=r"train\.steps"):
        as_control(
            load_run("protocol/synthetic", ["train.steps=null", "train.epochs=3", "data.labelled_per_batch=null"]),
            "alone",
        )
    with pytest.raises(UserError, match="needs labels"):
        as_control(load_run("protocol/synthetic", ["data.labelled=0"]), "alone")
    with pytest.raises(UserError, match="needs the teacher"):
        as_control(load_run("coco-sample"), "pseudo_label")


def test_prepared_models_are_named_in_changes():
    mine = plan(
        prepare={"big": {"recipe": "bundled-teacher"}},
        arms={"tcd": {"title": "t", "set": ["teacher={name: checkpoint, path: <big>}"]}, "longer": {"title": "l"}},
    )
    job = make_job(
        mine, split="tune", regime="few", arm="tcd", learning_rate=1e-3, seed=1, folders={"big": Path("a/best")}
    )
    assert job.config.teacher.path == Path("a/best")


def test_more_arms_leave_the_protocol_its_digits_and_other_regimes_do_not():
    one = plan()
    arms = {name: arm.model_dump() for name, arm in one.arms.items()}
    assert plan(arms={**arms, "new": {"title": "n"}}).protocol_hash() == one.protocol_hash()
    assert plan(seeds={"choose": [8]}).protocol_hash() != one.protocol_hash()
    assert plan(learning_rates=[1e-3]).protocol_hash() != one.protocol_hash()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"baseline": "alon"}, "did you mean 'alone'"),
        ({"confirm": {"fw": ["alone"]}}, "did you mean 'few'"),
        ({"confirm": {"few": ["alone", "tcd", "ocd"]}}, "no 'ocd'"),
        ({"confirm": {"many": ["pseudo_label"]}}, "the regime has no arm 'pseudo_label'"),
        ({"learning_rates": []}, "learning_rates"),
        ({"regime": {}}, "did you mean 'regimes'"),
    ],
)
def test_a_mistake_in_a_plan_is_named(changes, said):
    with pytest.raises(UserError, match=said):
        plan(**changes)


def test_files_that_are_no_plans_say_so(tmp_path):
    with pytest.raises(UserError, match=r"no plan .*benchmarks/protocol\.yaml"):
        load_plan(tmp_path / "none.yaml")
    for text, said in (("a: [", "not valid YAML"), ("- 1", "not a plan")):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(UserError, match=said):
            load_plan(tmp_path / "bad.yaml")


def test_the_protocol_asks_for_at_most_150_runs():
    protocol = load_plan(PROTOCOL)
    folders = {name: Path("runs/protocol/prepared") / name / "best" for name in protocol.prepare}
    rates = {(regime, arm): 5e-3 for regime in protocol.regimes for arm in protocol.arms_of(regime)}
    jobs = tuning_jobs(protocol, folders) + screening_jobs(protocol, folders, rates)
    jobs += confirming_jobs(protocol, folders, rates)
    assert len({job.name for job in jobs}) <= 150
    assert len(protocol.seeds.confirm) == 8
    assert not set(protocol.seeds.confirm) & set(protocol.seeds.choose)
    assert yaml.safe_load(PROTOCOL.read_text())["learning_rates"] == [2e-3, 5e-3, 1.2e-2]


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
        settings = load_run(run.recipe, [filled(change, folders) for change in run.set])
        PoseModel(settings.model, people_like(settings).skeleton).save(folders[prepared])
    seen = set()
    for regime in published.regimes:
        for arm in published.arms_of(regime):
            job = make_job(published, split="tune", regime=regime, arm=arm, learning_rate=1e-3, seed=0, folders=folders)
            run = change_run(job.config, ["train.batch_size=4", "data.labelled=4", "data.crops=null"])
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
