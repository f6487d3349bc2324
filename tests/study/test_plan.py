import pytest

from posestill.engine.config import load_run
from posestill.schema import UserError
from posestill.study.plan import as_control, lengthened, load_plan
from tests.study.plans import small_plan


def test_a_plan_has_its_controls_whether_it_names_them_or_not():
    assert list(small_plan().arms)[:2] == ["alone", "pseudo_label"]
    arms = {"alone": {"title": "mine", "control": "alone"}, "longer": {"title": "l"}, "tcd": {"title": "t"}}
    named = small_plan(arms=arms)
    assert named.arms["alone"].title == "mine"


@pytest.mark.parametrize("control", ["alone", "pseudo_label"])
def test_a_kept_agent_is_the_methods_and_no_part_of_a_control(control):
    kept = load_run("coco/student-mobilenetv2-agentpose", ["model.neck=agent"])
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


def test_the_learning_rate_of_a_control_falls_at_the_same_shares_of_its_training():
    changes = ["data.labelled=400", "data.labelled_per_batch=8", "train.batch_size=64", "evaluate.every=10"]
    run = load_run("coco/student-resnet50-tcd", changes)
    control = as_control(run, "alone")
    assert control.train.epochs == 8 * run.train.epochs
    shares = [[drop / each.train.epochs for drop in each.train.optimiser.drops] for each in (run, control)]
    assert shares[0] == shares[1] == [170 / 210, 200 / 210]
    assert control.evaluate.every == 80  # as often in the training
    twice = lengthened(run.train, 2)
    assert (twice.epochs, twice.optimiser.drops) == (2 * run.train.epochs, (340, 400))


def test_a_control_alone_sees_labels_in_every_place_of_its_batches_though_others_may_teach():
    run = load_run(
        "protocol/synthetic", ["data.labelled=null", "data.labelled_per_batch=null", "data.unlabelled_people=true"]
    )
    assert as_control(run, "alone").data.labelled_per_batch == run.train.batch_size
    assert as_control(run, "pseudo_label").data == run.data


def test_more_arms_leave_the_protocol_its_digits_and_other_regimes_do_not():
    one = small_plan()
    arms = {name: arm.model_dump() for name, arm in one.arms.items()}
    assert small_plan(arms={**arms, "new": {"title": "n"}}).protocol_hash() == one.protocol_hash()
    assert small_plan(finished="a-tag").protocol_hash() == one.protocol_hash()
    assert small_plan(seeds={"choose": [8]}).protocol_hash() != one.protocol_hash()
    assert small_plan(learning_rates=[1e-3]).protocol_hash() != one.protocol_hash()


IN_TIME = {"title": "t", "control": "alone", "as_long_as": "tcd", "tuned_as": "alone"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"as_long_as": "tdc"}, "did you mean 'tcd'"),
        ({"length": 2}, "length: as_long_as says how long"),
        ({"tuned_as": None}, "tuned_as: an arm whose length is measured takes another's learning rate"),
        ({"as_long_as": "pseudo_label"}, "it names pseudo_label, which the regime many lacks"),
        ({"as_long_as": "in_time"}, "it names in_time, whose own length is measured"),
    ],
)
def test_an_arm_that_gets_anothers_time_names_one_that_can_be_timed(changes, said):
    regimes = {"many": {"recipe": "protocol/synthetic", "arms": ["alone", "tcd", "in_time"]}}
    arms = {"tcd": {"title": "TCD"}, "in_time": IN_TIME}
    assert small_plan(regimes=regimes, arms=arms, confirm={}).arms["in_time"].as_long_as == "tcd"
    with pytest.raises(UserError, match=said):
        small_plan(regimes=regimes, arms={**arms, "in_time": {**IN_TIME, **changes}}, confirm={})


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
        small_plan(**changes)


def test_files_that_are_no_plans_say_so(tmp_path):
    with pytest.raises(UserError, match=r"no plan .*benchmarks/protocol\.yaml"):
        load_plan(tmp_path / "none.yaml")
    for text, said in (("a: [", "not valid YAML"), ("- 1", "not a plan")):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(UserError, match=said):
            load_plan(tmp_path / "bad.yaml")
