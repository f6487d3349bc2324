import pytest
import torch

from posestill.engine.optim import OptimiserConfig, build_optimiser, learning_rate_factor, set_learning_rate


def factor(config, step):
    return learning_rate_factor(config, step, total=2100, unit=10)


def test_the_published_schedule_warms_up_and_drops_at_its_epochs():
    config = OptimiserConfig(schedule="step", warmup_steps=500, drops=(170, 200))
    assert factor(config, 0) == pytest.approx(0.001)
    assert factor(config, 250) == pytest.approx(0.5005)
    assert factor(config, 500) == 1
    assert factor(config, 1699) == 1
    assert factor(config, 1700) == pytest.approx(0.1)
    assert factor(config, 2000) == pytest.approx(0.01)


def test_cosine_falls_from_where_it_is_told_to_what_it_is_told():
    config = OptimiserConfig(schedule="cosine", warmup_steps=0, cosine_from=0.5, final_factor=0.05)
    assert factor(config, 1050) == 1
    assert factor(config, 1575) == pytest.approx(0.525)
    assert factor(config, 2100) == pytest.approx(0.05)
    assert factor(OptimiserConfig(warmup_steps=0), 2000) == 1


def test_norms_and_biases_are_spared_from_decay_and_groups_keep_their_own_rate():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    groups = [{"params": list(model[0].parameters()), "lr": 0.5}, {"params": list(model[1].parameters())}]
    optimiser = build_optimiser(OptimiserConfig(name="adamw", learning_rate=0.1, weight_decay=0.02), model, groups)
    found = {(group["lr"], group["weight_decay"], len(group["params"])) for group in optimiser.param_groups}
    assert found == {(0.5, 0.02, 1), (0.5, 0.0, 1), (0.1, 0.0, 2)}
    set_learning_rate(optimiser, 0.5)
    assert {group["lr"] for group in optimiser.param_groups} == {0.25, 0.05}


@pytest.mark.parametrize(("name", "kind"), [("adam", "Adam"), ("adamw", "AdamW"), ("sgd", "SGD")])
def test_each_optimiser_is_the_one_named(name, kind):
    model = torch.nn.Linear(2, 2)
    built = build_optimiser(OptimiserConfig(name=name), model, [{"params": list(model.parameters())}])
    assert type(built).__name__ == kind


def test_drops_of_a_schedule_that_has_none_are_refused():
    with pytest.raises(ValueError, match="the schedule cosine has none; set schedule=step"):
        OptimiserConfig(schedule="cosine", drops=(1,))
