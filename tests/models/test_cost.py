from posestill.models.cost import measure
from tests.conftest import small_model


def test_costs_are_counted_by_hand_on_one_layer():
    model = small_model("coords", head="gap_fc")
    cost = measure(model, repeats=3, warmup=1)
    # stem 3->8 at 16x12; block 8->8 at 16x12; block 8->16 at 8x6 with a 1x1 shortcut; 16 -> 8 numbers
    by_hand = 16 * 12 * 9 * (3 * 8 + 2 * 8 * 8) + 8 * 6 * (9 * (8 * 16 + 16 * 16) + 8 * 16) + 16 * 8
    assert cost.macs == by_hand
    assert cost.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert 0 < cost.fastest <= cost.milliseconds <= cost.slowest


def test_a_model_in_training_stays_in_training():
    model = small_model().train()
    measure(model, repeats=1, warmup=0)
    assert model.training
