import torch
from torch import nn

from posestill.models.average import move_average, warm_decay


def test_weights_and_running_statistics_move_by_a_share_and_counters_are_copied():
    average, current = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    current.weight.data.fill_(3.0)
    current.running_mean.fill_(1.0)
    current.num_batches_tracked.fill_(7)
    move_average(average, current, 0.75)
    torch.testing.assert_close(average.weight.data, torch.full((2,), 1.5))  # 0.75 * 1 + 0.25 * 3
    torch.testing.assert_close(average.running_mean, torch.full((2,), 0.25))
    assert average.num_batches_tracked == 7
    torch.testing.assert_close(current.weight.data, torch.full((2,), 3.0))


def test_a_decay_in_a_tensor_gives_what_a_number_gives():
    current = nn.BatchNorm2d(2)
    current.weight.data.fill_(3.0)
    found = []
    for decay in (0.75, torch.tensor(0.75)):
        average = nn.BatchNorm2d(2)
        move_average(average, current, decay)
        found.append(average.weight.data)
    assert torch.equal(*found)


def test_the_decay_is_short_at_first():
    assert [warm_decay(0.999, step) for step in (0, 8, 10**6)] == [0.1, 0.5, 0.999]
