import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from posestill.methods.ocd import OcdConfig
from posestill.models.balance import BalancedWeight
from tests.conftest import small_model


def branch(weight, features):
    """The features for the student's head and for the other loss."""
    return weight.measure_student(features), weight.measure_other(features)


def taught(pull):
    """One step of losses a * sum(F) for the student and w * pull * sum(F) for the helper, on features of one px."""
    weight = BalancedWeight(10.0, measures=True, decay=0.5)
    features = (torch.ones(1, 4, 1, 1, requires_grad=True),)
    own, helper = branch(weight, features)
    (3 * own[-1].sum() + weight.weight * pull * helper[-1].sum()).backward()
    weight.after_step()
    return weight, features[-1].grad


def test_the_balanced_weight_is_the_ratio_of_the_gradients_on_the_shared_features():
    weight, gradient = taught(0.5)
    assert torch.equal(gradient, torch.full((1, 4, 1, 1), 3 + 10 * 0.5))  # both pulls reach the features unchanged
    torch.testing.assert_close(weight.weight, torch.tensor(3 / 0.5))  # began with 10, which is taken out again
    torch.testing.assert_close(weight.norms, torch.tensor([6.0, 1.0]))  # norms of 4 equal numbers


def test_a_share_of_the_students_pull_can_be_asked_for():
    weight = BalancedWeight(1.0, measures=True, share=0.5)
    own, other = branch(weight, (torch.ones(1, 4, 1, 1, requires_grad=True),))
    (3 * own[-1].sum() + weight.weight * 2 * other[-1].sum()).backward()
    weight.after_step()
    torch.testing.assert_close(weight.weight, torch.tensor(0.75))


def test_the_balance_forgets_slowly_and_a_step_without_labels_leaves_it_alone():
    weight, _ = taught(0.5)
    features = (torch.ones(1, 4, 1, 1, requires_grad=True),)
    own, helper = branch(weight, features)
    (3 * own[-1].sum() + weight.weight * 1.5 * helper[-1].sum()).backward()
    weight.after_step()
    torch.testing.assert_close(weight.weight, torch.tensor(6.0 / (0.5 * 1 + 0.5 * 3)))
    before = weight.weight.clone()
    own, helper = branch(weight, (torch.ones(1, 4, 1, 1, requires_grad=True),))
    (0 * own[-1].sum() + 0 * helper[-1].sum()).backward()
    weight.after_step()
    assert weight.weight == before


def test_a_schedule_is_not_undone_by_the_measuring():
    weight = BalancedWeight(10.0, measures=True)
    for factor in (0.0, 0.5, 0.01):
        own, other = branch(weight, (torch.ones(1, 4, 1, 1, requires_grad=True),))
        (own[-1].sum() + weight.follow_schedule(factor) * 4 * other[-1].sum()).backward()
        weight.after_step()
        expected = 10.0 if factor == 0 else 0.25  # nothing can be measured where nothing counts
        torch.testing.assert_close(weight.weight, torch.tensor(expected))


def test_a_fixed_weight_measures_nothing():
    weight = BalancedWeight(4.0, measures=False)
    features = (torch.ones(1, 4, 1, 1, requires_grad=True),)
    assert branch(weight, features) == (features, features)
    weight.after_step()
    assert weight.weight == 4


def test_in_a_training_the_balanced_losses_pull_equally_hard():
    from tests.methods.test_ocd import batch

    ocd = OcdConfig(stride=2, width=8, heatmap_weight="auto").build(small_model("coords"), None)
    ocd.heatmap_weight.decay = 0.0
    for _ in range(2):  # the second step uses what the first one found
        sum(ocd(batch(), 0.5).values()).backward()
        own, helper = (ocd.heatmap_weight.measured[which] for which in (0, 1))
        used = ocd.heatmap_weight.weight.clone()
        ocd.after_step()
    torch.testing.assert_close(own, helper, rtol=1e-4, atol=0)
    assert used != 10
    assert ocd.watch() == {"heatmap_weight": ocd.heatmap_weight.weight.item()}


PROGRAM = """
import torch
from posestill.models.balance import BalancedWeight

torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
weight = BalancedWeight(10.0, measures=True)
features = (torch.ones(1, 4, 1, 1, requires_grad=True),)
own, helper = weight.measure_student(features), weight.measure_other(features)
((1 + rank) * own[-1].sum() + weight.weight * (3 - rank) * helper[-1].sum()).backward()
weight.after_step()
print(f"rank {rank} weight {weight.weight.item():.4f}", flush=True)
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_share_what_they_measured(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    root = Path(__file__).parents[2]
    done = subprocess.run([*command, str(tmp_path / "program.py")], capture_output=True, text=True, cwd=root,
                          env={**os.environ, "PYTHONPATH": str(root)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    # The norms of the joint batch's gradients: of each process's own persons, they add up as squares.
    expected = ((1**2 + 2**2) / (3**2 + 2**2)) ** 0.5
    assert sorted(re.findall(r"rank \d weight [\d.]+", done.stdout)) == [
        f"rank {rank} weight {expected:.4f}" for rank in (0, 1)
    ]
