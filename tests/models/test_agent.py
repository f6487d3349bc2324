import pytest
import torch

from posestill.models.agent import (
    Agent,
    AgentConfig,
    AgentNeckConfig,
    Bridged,
    DiffKDAgentConfig,
    PaperAgentNeckConfig,
    Standardise,
    gaussian,
)
from posestill.models.vp_sde import ode_step, perturbed, signal_and_noise, time_of
from tests.conftest import small_model


def noise():
    return torch.Generator().manual_seed(0)


def test_standardised_features_have_mean_0_and_variance_1_and_running_statistics_for_later():
    layer = Standardise(3, decay=0.5)
    feature = torch.randn(64, 3, 4, 4) * torch.tensor([2.0, 0.5, 1.0])[:, None, None] + 3
    found = layer(feature)
    torch.testing.assert_close(found.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.var(dim=(0, 2, 3), correction=0), torch.ones(3), atol=1e-3, rtol=0)
    before = layer.mean.clone()
    layer(feature + 2)
    torch.testing.assert_close(layer.mean, before + 1)  # half-way to the new mean
    layer.eval()(feature - 100)
    torch.testing.assert_close(layer.mean, before + 1)
    torch.testing.assert_close(layer(layer.mean[:, None, None].expand(1, 3, 2, 2)), torch.zeros(1, 3, 2, 2))
    assert not list(layer.parameters())


def test_a_projection_does_not_come_nearer_to_its_target_by_shrinking():
    torch.manual_seed(0)
    project, layer = torch.nn.Conv2d(6, 3, 1), Standardise(3)
    feature = torch.randn(64, 6, 4, 4)
    target = 0.7 * Standardise(3)(feature[:, :3]) + 0.71 * torch.randn(64, 3, 4, 4)
    optimiser = torch.optim.Adam(project.parameters(), lr=1e-2)
    for _ in range(300):
        optimiser.zero_grad()
        (layer(project(feature)) - target).square().mean().backward()
        optimiser.step()
    torch.testing.assert_close(layer.eval()(project(feature)).var().item(), 1.0, atol=0.05, rtol=0)


def test_the_reverse_process_is_the_ode_from_the_students_error_with_as_many_evaluations_as_asked():
    torch.manual_seed(0)
    agent = Agent(AgentConfig(channels=8, evaluations=3, predicts="clean"))
    torch.nn.init.normal_(agent.network.leave.weight)
    agent.error.fill_(0.4)
    feature = torch.randn(2, 8, 4, 3)
    begin = time_of(torch.tensor(1.25 * 0.4))
    times = [begin, begin * 2 / 3, begin / 3]
    torch.testing.assert_close(agent.times(), torch.stack(times))
    state = signal_and_noise(begin)[0] * feature
    for number, time in enumerate(times):
        clean = agent.network(state, time.expand(2))
        if number < 2:
            state = ode_step(state, clean, time, times[number + 1])
    torch.testing.assert_close(agent.denoise(feature, gaussian(feature.shape, noise())), clean)


def test_a_noised_entry_is_the_forward_diffusion_of_the_students_feature():
    agent = Agent(AgentConfig(channels=8, evaluations=1, entry="noised", begin=0.3, predicts="velocity"))
    feature = torch.randn(2, 8, 4, 3)
    drawn = torch.randn(feature.shape, generator=noise())
    state = perturbed(feature, torch.tensor(0.3), drawn)
    signal, _ = signal_and_noise(torch.tensor(0.3))
    torch.testing.assert_close(
        agent.denoise(feature, gaussian(feature.shape, noise())), signal * state
    )  # an untrained velocity says 0


def test_the_begin_stays_within_its_bounds():
    agent = Agent(AgentConfig(channels=8))
    for error, begin in ((0.0, 0.02), (50.0, 0.4)):
        agent.error.fill_(error)
        assert agent.times()[0].item() == pytest.approx(begin)


@pytest.mark.parametrize("network", ["depthwise", "bottleneck"])
def test_it_learns_to_take_a_students_error_off_teacher_features(network):
    """At least three times less error after a short training."""
    generator = torch.Generator().manual_seed(1)
    codes = torch.randn(3, 8, generator=generator)

    def features(count):
        """Three 'joints' with a code each, somewhere on 8 x 6."""
        place = torch.rand(count, 3, 2, generator=generator) * torch.tensor([5.0, 7.0])
        rows, columns = torch.arange(8.0)[:, None], torch.arange(6.0)
        x, y = place[..., 0, None, None], place[..., 1, None, None]
        maps = torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 2)
        found = torch.einsum("nkhw,kc->nchw", maps, codes)
        return (found - found.mean()) / found.std()

    torch.manual_seed(0)
    agent = Agent(AgentConfig(channels=8, network=network))
    optimiser = torch.optim.Adam(agent.parameters(), lr=3e-3)
    for _ in range(500):
        optimiser.zero_grad()
        agent.loss(features(32), generator, max_noise_time=0.6).backward()
        optimiser.step()
    clean = features(128)
    noisy = clean + 0.5 * torch.randn(clean.shape, generator=generator)
    agent.error.fill_(0.5)
    agent.eval()
    with torch.no_grad():
        left = (agent.denoise(noisy, gaussian(noisy.shape, generator)) - clean).square().mean()
    assert left < (noisy - clean).square().mean() / 3


def test_a_kept_agent_with_its_gate_closed_changes_nothing_and_says_the_same_twice():
    plain, kept = small_model("heatmap"), small_model("heatmap", neck="agent")
    kept.backbone.load_state_dict(plain.backbone.state_dict())
    kept.head.load_state_dict(plain.head.state_dict())
    image = torch.rand(2, 3, 32, 24)
    assert torch.equal(plain.eval()(image).prediction.maps, kept.eval()(image).prediction.maps)
    paper = small_model("heatmap", neck="agent_paper").eval()
    torch.nn.init.ones_(paper.neck.gate)
    first, second = (paper(image).prediction.maps for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, plain(image).prediction.maps)


def test_what_a_kept_agent_says_of_a_crop_depends_on_no_other_crop():
    torch.manual_seed(0)
    paper = small_model("heatmap", neck="agent_paper").eval()
    torch.nn.init.ones_(paper.neck.gate)
    torch.nn.init.normal_(paper.neck.agent.network.leave[0].weight)
    image = torch.rand(4, 3, 32, 24)
    together = paper(image).prediction.maps
    for index in (0, 3):
        torch.testing.assert_close(paper(image[index : index + 1]).prediction.maps[0], together[index])
    torch.manual_seed(1)
    first = paper.train().neck(paper.backbone(image))[-1]
    torch.manual_seed(2)
    assert not torch.equal(paper.neck(paper.backbone(image))[-1], first)  # in training the noise follows from the step


@pytest.mark.parametrize("config", [AgentNeckConfig(), PaperAgentNeckConfig()])
def test_a_kept_agent_gives_the_features_what_it_made_of_them_and_the_bridged_map(config):
    neck = config.build((16, 8, 6))
    features = (torch.rand(2, 4, 16, 12), torch.rand(2, 16, 8, 6))
    found = neck(features)
    assert [tuple(each.shape) for each in found[:2]] == [(2, 4, 16, 12), (2, 16, 8, 6)]
    assert found[1] is features[1]
    assert found[-1].shape == features[-1].shape
    bridged = Bridged.of(found)
    assert bridged.raw[0] is features[0]
    assert bridged.own.shape == bridged.denoised.shape == (2, neck.agent.config.channels, 8, 6)
    torch.testing.assert_close(bridged.own, neck.latent(features), atol=0.1, rtol=0.1)  # whose running moments moved
    torch.testing.assert_close(found[-1], features[-1] + neck.gate * neck.back(bridged.denoised))


class Maps(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, image):
        return self.model(image).prediction.maps


@pytest.mark.parametrize("neck", ["agent", "agent_paper"])
def test_an_exported_kept_agent_says_what_the_model_says_of_batches_of_any_size(neck):
    model = small_model("heatmap", neck=neck).eval()
    torch.nn.init.ones_(model.neck.gate)
    torch.nn.init.normal_(model.neck.back.weight)
    image = torch.rand(5, 3, 32, 24)
    batch = {"image": {0: torch.export.Dim("batch")}}
    exported = torch.export.export(Maps(model), (image[:2],), dynamic_shapes=batch).module()
    for count in (2, 5):
        torch.testing.assert_close(exported(image[:count]), model(image[:count]).prediction.maps)


@pytest.mark.parametrize("neck", ["agent", "agent_paper"])
def test_a_model_with_a_kept_agent_runs_in_any_precision(neck):
    model, image = small_model("heatmap", neck=neck).eval(), torch.rand(2, 3, 32, 24)
    torch.nn.init.ones_(model.neck.gate)
    said = model(image).prediction.maps
    exact = model.double()(image.double()).prediction.maps
    torch.testing.assert_close(exact.float(), said, atol=1e-4, rtol=1e-3)
    assert model.bfloat16()(image.bfloat16()).prediction.maps.dtype == torch.bfloat16


def test_a_step_that_overflowed_leaves_what_the_agent_keeps_account_of():
    agent, layer = Agent(AgentConfig(channels=3)), Standardise(3)
    layer(torch.randn(8, 3, 4, 3))
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    feature = torch.full((2, 3, 4, 3), float("inf"))
    agent.note_error(feature, torch.zeros_like(feature))
    layer(feature)
    assert agent.error == 0.5
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"times": (0.1, 0.3)}, "times must fall"),
        ({"times": (1.5, 0.3)}, "from 1 at most"),
        ({"times": (0.3, 0.2, 0.1)}, "set evaluations=3"),
        ({"times": (0.3, 0.1), "begin": 0.3}, "begin=null"),
    ],
)
def test_times_that_do_not_fall_or_that_other_settings_gainsay_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AgentConfig(**settings)
    with pytest.raises(ValueError, match="set evaluations=5"):
        DiffKDAgentConfig(evaluations=2)


def test_a_head_begins_alike_with_and_without_a_neck():
    plain, kept = small_model("heatmap"), small_model("heatmap", neck="agent")
    found = kept.head.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in plain.head.state_dict().items())
