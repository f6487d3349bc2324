import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from posestill.data.topdown import TopDownDataset
from posestill.methods.agentpose import AgentPoseConfig, AgentPosePaperConfig, Autoencoder, DiffKDConfig
from posestill.models.agent import Agent, AgentConfig, Bridged, DiffKDAgentConfig, PaperAgentConfig, gaussian
from posestill.schema import UserError
from posestill.teachers.base import ModelTeacher
from tests.conftest import DotSource, small_model

PRESETS = {"default": AgentPoseConfig, "paper": AgentPosePaperConfig, "diffkd": DiffKDConfig}


def batch(count=6):
    return TopDownDataset(DotSource(count), size=(32, 24)).__getitems__([(0, index) for index in range(count)])


def teacher(**changes):
    return ModelTeacher(small_model("heatmap", seed=3, **changes))


def build(preset="default", student=None, taught=None, **settings):
    return PRESETS[preset](**settings).build(student or small_model("coords"), taught or teacher())


def grads(module):
    return any(each.grad is not None and each.grad.abs().sum() > 0 for each in module.parameters())


def balanced_pulls(method):
    """How hard the student's losses and the other pull at its features, once a step has measured the weight."""
    method.balance.decay = 0.0
    for _ in range(2):
        sum(method(batch(), 0.5).values()).backward()
        own, other = method.balance.measured[0], method.balance.measured[1]
        method.after_step()
    return own, other


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_each_loss_reaches_what_it_should_and_nothing_else(preset):
    method, given = build(preset), batch()
    torch.nn.init.normal_(
        method.agent.network.leave[0].weight if preset != "default" else method.agent.network.leave.weight
    )
    if method.guide is not None:
        method.guide.load_state_dict(method.agent.state_dict())
    parts = {"backbone": method.student.backbone, "project": method.project, "agent": method.agent.network,
             "encoder": method.autoencoder, "head": method.student.head}  # fmt: skip
    reached = {}
    for name, loss in method(given, 0.5).items():
        method.zero_grad()
        loss.backward(retain_graph=True)
        reached[name] = {part for part, module in parts.items() if grads(module)}
    joint = {"agent"} if preset != "default" else set()
    assert reached == {
        "task": {"backbone", "head"},
        "distil": {"backbone", "project"} | joint,
        "diffusion": {"agent"},
        "autoencoder": {"encoder"},
    }


def test_the_distillation_sets_in_after_the_warm_up_and_falls_to_nothing():
    method = build(warmup=0.2)
    assert [round(method.ramp(progress), 6) for progress in (0.0, 0.2, 0.25, 0.3, 0.5, 1.0)] == [
        0,
        0,
        0.375,
        0.7,
        0.5,
        0,
    ]
    assert build("paper").ramp(0.0) == 1.0 == build("paper").ramp(1.0)


def test_the_distillation_is_the_guided_and_the_direct_distance_of_standardised_features():
    method, given = build(distil_weight=2.0, direct_weight=0.25, warmup=0.0, fades_out=False).eval(), batch()
    latent, _ = method.autoencoder(method.teacher(given).features[-1])
    own = method.standardise(method.project(method.student.features(given.image)[-1]))
    guided = method.guide.denoise(own, gaussian(own.shape, torch.Generator()))
    wanted = 2 * ((guided - latent).square().mean() + 0.25 * (own - latent).square().mean())
    torch.testing.assert_close(method(given, 0.5)["distil"], wanted)


def test_its_noise_follows_from_the_step_and_leaves_all_other_draws_alone():
    method, given = build().eval(), batch()
    torch.nn.init.normal_(method.agent.network.leave.weight)
    torch.manual_seed(5)
    first = method(given, 0.5)
    after = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), after)
    torch.manual_seed(5)
    second = method(given, 0.5)
    torch.manual_seed(6)
    other = method(given, 0.5)
    assert first["diffusion"] == second["diffusion"] != other["diffusion"]


@pytest.mark.parametrize(
    ("taught", "grid"),
    [
        ({"size": [64, 48]}, (16, 12)),  # a finer teacher: its own grid, the student's features are resized
        (
            {"size": [128, 96], "backbone": "stemnet", "head": "conv_maps", "codec": {"name": "heatmap", "stride": 4}},
            (16, 12),
        ),
        ({"head": {"name": "token", "patch": [4, 3], "dim": 16, "heads": 2, "depth": 1}}, (8, 6)),
    ],
)
def test_teachers_of_any_grid_are_met(taught, grid):
    method = build(taught=teacher(**taught))
    assert method.autoencoder.grid == grid
    source = TopDownDataset(DotSource(2), size=(32, 24), teacher_size=tuple(method.teacher.input_size))
    losses = method(source.__getitems__([(0, 0), (0, 1)]), 0.5)
    assert all(torch.isfinite(each) for each in losses.values())


def test_fine_features_are_cut_into_patches_and_rebuilt_from_them():
    torch.manual_seed(0)
    autoencoder = Autoencoder((3, 64, 48), 48, None)
    assert autoencoder.grid == (16, 12)
    taught = torch.randn(4, 3, 64, 48)
    latent, before = autoencoder(taught)
    assert latent.shape == (4, 48, 16, 12)
    assert not latent.requires_grad
    optimiser = torch.optim.Adam(autoencoder.parameters(), lr=1e-2)
    for _ in range(300):
        optimiser.zero_grad()
        autoencoder(taught)[1].backward()
        optimiser.step()
    assert autoencoder(taught)[1] < 0.1 * before  # 48 latents can hold 3 x 4 x 4 values


@pytest.mark.parametrize(
    ("grid", "patch"), [((8, 6), 1), ((16, 12), 1), ((24, 18), 2), ((64, 48), 4), ((17, 17), 1), ((96, 72), 6)]
)
def test_patches_divide_the_grid(grid, patch):
    assert Autoencoder((3, *grid), 8, None).grid == (grid[0] // patch, grid[1] // patch)


def test_latents_have_variance_1_on_another_grid_too():
    torch.manual_seed(0)
    autoencoder = Autoencoder((3, 16, 12), 4, (10, 8))
    latent, _ = autoencoder(torch.randn(32, 3, 16, 12))
    assert latent.shape == (32, 4, 10, 8)
    torch.testing.assert_close(latent.var().item(), 1.0, atol=0.05, rtol=0)


def test_the_guide_never_trains():
    method = build(agent=AgentConfig(network="diffkd")).train()
    assert method.training
    assert not any(each.training for each in method.guide.modules())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"agent": AgentConfig(entry="mixed")}, "set method.distillation_trains_agent=true"),
        ({"agent": AgentConfig(begin=0.8)}, "learns times up to 0.6 and is asked at 0.8"),
        ({"max_noise_time": 0.3}, "learns times up to 0.3 and is asked at 0.4"),
    ],
)
def test_settings_that_leave_a_part_untrained_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        build(**settings)


def test_a_teacher_of_another_aspect_is_refused():
    with pytest.raises(UserError, match="of another aspect"):
        build(taught=teacher(size=[32, 32]))


def test_a_teacher_whose_crops_are_padded_otherwise_is_refused(monkeypatch):
    monkeypatch.setattr(ModelTeacher, "padding", 1.5)
    with pytest.raises(UserError, match=r"boxes padded by 1\.5, and the student's are padded by 1\.25"):
        build()


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_gradients_are_finite_in_half_precision(preset):
    method = build(preset)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sum(method(batch(), 0.5).values()).backward()
    assert all(torch.isfinite(each.grad).all() for each in method.parameters() if each.grad is not None)


def test_a_dropped_agent_leaves_the_bare_student():
    student, plain = small_model("coords"), small_model("coords")
    method = build(student=student)
    assert method.deployable() is student
    assert list(student.state_dict()) == list(plain.state_dict())
    image = torch.rand(2, 3, 32, 24)
    assert torch.equal(student.eval()(image).prediction.xy, plain.eval()(image).prediction.xy)


def test_a_kept_agent_is_trained_by_everything_and_saved_with_the_model(tmp_path):
    student = small_model("coords", neck="agent")
    method = build(student=student)
    assert method.kept
    assert method.guide is None
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        sum(method.train()(batch(), 0.5).values()).backward()
        optimiser.step()
        method.after_step()
    assert grads(student.neck.agent)
    assert student.neck.gate != 0
    student.eval().save(tmp_path)
    loaded = type(student).load(tmp_path)
    image = torch.rand(2, 3, 32, 24)
    assert torch.equal(loaded(image).prediction.xy, student(image).prediction.xy)
    assert any("agent" in key for key in loaded.state_dict())


def test_the_distillation_alone_trains_a_kept_agent():
    method = build(student=small_model("coords", neck="agent"), warmup=0.0)
    torch.nn.init.normal_(method.student.neck.agent.network.leave.weight)
    method(batch(), 0.5)["distil"].backward()
    assert grads(method.student.neck.agent.network)


@pytest.mark.parametrize(("agent", "times"), [(AgentConfig(), 1), (AgentConfig(entry="noised"), 2)])
def test_a_kept_agent_denoises_once_a_step_unless_it_draws_noise(monkeypatch, agent, times):
    student = small_model("coords", neck={"name": "agent", "agent": agent.model_dump()})
    method, asked = build(student=student, agent=agent).train(), []
    denoise = Agent.denoise
    monkeypatch.setattr(Agent, "denoise", lambda self, *given: asked.append(self) or denoise(self, *given))
    losses = method(batch(), 0.5)
    assert len(asked) == times
    assert losses["distil"] > 0


def test_what_a_kept_agent_made_for_the_head_is_what_denoising_again_would_give():
    """The time at which denoising begins is fixed: else it would follow the error noted in between."""
    agent = AgentConfig(begin=0.3)
    student = small_model("coords", neck={"name": "agent", "agent": agent.model_dump()})
    method, given = build(student=student, agent=agent).train(), batch()
    torch.nn.init.normal_(student.neck.agent.network.leave.weight)
    features = student.features(given.image)
    bridged = Bridged.of(features)
    own = student.neck.latent(bridged.raw)
    torch.testing.assert_close(bridged.own, own)
    torch.testing.assert_close(bridged.denoised, student.neck.agent.denoise(own, iter(())))
    latent, _ = method.autoencoder(method.teacher(given).features[-1])
    guided = method.leave(bridged.denoised)
    wanted = (guided - latent).square().mean() + 0.5 * (own - latent).square().mean()
    torch.testing.assert_close(method(given, 0.5)["distil"], method.ramp(0.5) * wanted)


def test_the_students_error_is_noted_in_training():
    method, given = build().train(), batch()
    method(given, 0.5)
    latent, _ = method.autoencoder(method.teacher(given).features[-1])
    own = method.standardise(method.project(method.student.features(given.image)[-1]))
    found = (own - latent).square().mean()
    torch.testing.assert_close(method.agent.error, (0.99 * 0.25 + 0.01 * found).sqrt())


@pytest.mark.parametrize("kind", ["coords", "heatmap"])
def test_the_balanced_distillation_pulls_half_as_hard_as_the_labels(kind):
    method = build(student=small_model(kind), distil_weight="auto", warmup=0.0, fades_out=False)
    own, other = balanced_pulls(method)
    torch.testing.assert_close(other, 0.5 * own, rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("preset", "neck", "agent"),
    [
        ("default", {"name": "agent_paper"}, AgentConfig(**PaperAgentConfig().model_dump())),
        ("paper", {"name": "agent", "agent": PaperAgentConfig().model_dump()}, PaperAgentConfig()),
    ],
)
def test_a_kept_agent_is_met_by_its_settings_whatever_preset_they_come_from(preset, neck, agent):
    student = small_model("coords", neck=neck)
    assert build(preset, student=student, agent=agent).kept


def test_diffkds_affine_norms_are_refused_with_a_kept_agent():
    agent = DiffKDAgentConfig(channels=16)
    neck = {"name": "agent", "agent": agent.model_dump()}
    with pytest.raises(UserError, match=r"choose agentpose or, to drop the agent, model\.neck=null"):
        build("diffkd", student=small_model("coords", neck=neck), agent=agent)
    assert build(student=small_model("coords", neck=neck), agent=agent, max_noise_time=1.0).kept


def test_a_kept_agent_with_other_settings_than_the_methods_is_refused():
    with pytest.raises(UserError, match="give both the same"):
        build(student=small_model("coords", neck="agent"), agent=AgentConfig(evaluations=5))


def test_the_guide_follows_the_agent_at_once_at_first_and_slowly_later():
    method = build()
    before = method.guide.network.enter.weight.clone()
    method.agent.network.enter.weight.data.add_(1.0)
    method.agent.error.fill_(0.123)
    method.after_step()  # or the guide of a short training would say what its initial weights say: nothing
    torch.testing.assert_close(method.guide.network.enter.weight, before + 0.9)
    assert method.guide.error == method.agent.error
    method.steps.fill_(100_000)
    method.after_step()
    torch.testing.assert_close(method.guide.network.enter.weight, before + 0.9 + 0.0001)


def test_a_teacher_without_features_is_refused():
    deaf = teacher()
    deaf.provides = frozenset({"prediction"})
    with pytest.raises(UserError, match="needs the teacher's features"):
        build(taught=deaf)


PROGRAM = """
import torch
from tests.methods.test_agentpose import batch, build, small_model

torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
for name, neck in (("dropped", None), ("kept", "agent")):
    method = build(student=small_model("coords", neck=neck)).train()
    wrapped = torch.nn.parallel.DistributedDataParallel(method)
    optimiser = torch.optim.SGD(method.parameters(), lr=1e-2)
    for step in range(3):  # all of them in the warm-up, when the distillation counts nothing
        torch.manual_seed(100 * step + rank)
        optimiser.zero_grad()
        sum(wrapped(batch(4 + 2 * rank), 0.0).values()).backward()
        optimiser.step()
        method.after_step()
    followed = method.guide if name == "dropped" else method.student.neck.agent
    sums = [value.double().sum().item() for part in (followed, method.autoencoder.standardise, method.balance)
            for value in part.state_dict().values()]
    print(f"rank {rank} {name} {sum(sums):.12f}", flush=True)
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_keep_one_agent_one_average_and_one_set_of_statistics(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    root = Path(__file__).parents[2]
    done = subprocess.run([*command, str(tmp_path / "program.py")], capture_output=True, text=True, cwd=root,
                          env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = dict(re.findall(r"(rank \d \w+) (-?\d+\.\d{12})", done.stdout))
    assert len(found) == 4
    for name in ("dropped", "kept"):
        assert found[f"rank 0 {name}"] == found[f"rank 1 {name}"]
