import json
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from posestill.data.augment import AugmentConfig
from posestill.data.crops import CropsInMemory
from posestill.data.topdown import FixedViews, Labels, TopDownDataset
from posestill.engine.checkpoint import load_state
from posestill.engine.fit import _Run, fit
from posestill.engine.log import RunLog
from posestill.engine.setup import Sources, set_up, try_one_batch
from posestill.schema import UserError, validate
from posestill.teachers import store as store_module
from posestill.teachers.base import CacheConfig, ModelTeacher, TeacherConfig
from posestill.teachers.bridge import Bridge
from posestill.teachers.cache import CachedTeacher
from posestill.types import Heatmaps
from tests.conftest import DotSource, small_model, small_model_config, small_run
from tests.teachers.painter import Painter

SIZE, PEOPLE = (32, 24), 20
AUGMENT = AugmentConfig(half_body=0)
QUIET = RunLog(None, quiet=True)


def cached(teacher, config=None, *, size=SIZE, source=None, augment=AUGMENT, device=None, **more):
    """A teacher that was asked about everyone."""
    source = source or DotSource(PEOPLE)
    asked = CachedTeacher(teacher, size=size, config=config)
    everyone = Labels(np.arange(len(source.people)), np.ones(len(source.people), dtype=bool))
    return asked.ask(teacher, asked.crops_to_ask_about(teacher, source, everyone, augment), **more)


def shown(teacher, *, epoch=0, seed=3, source=None, fixed_views=None, **more):
    """The crops of everyone that a training shows in an epoch."""
    dataset = TopDownDataset(
        source or DotSource(PEOPLE), size=SIZE, augment=AUGMENT, seed=seed, teacher_size=teacher.input_size,
        fixed_views=fixed_views, **more,
    )  # fmt: skip
    return dataset.__getitems__([(epoch, index) for index in range(PEOPLE)])


def described(answer):
    """Every tensor of an answer, by name."""
    prediction = {} if answer.prediction is None else vars(answer.prediction)
    features = {f"feature {number}": each for number, each in enumerate(answer.features)}
    return {name: value for name, value in {**prediction, **features}.items() if value is not None}


# what is replayed


def test_a_cached_teacher_looks_at_no_pixel_and_is_asked_once_about_each_person():
    teacher = Painter(DotSource(PEOPLE), gives="keypoints")
    asked = cached(teacher)
    assert [sorted(set(persons)) for persons in teacher.asked] == [list(range(PEOPLE))] * 2  # upright and mirrored
    batch = shown(teacher)
    blind = replace(batch, image=torch.zeros_like(batch.image))
    place = Bridge(asked, small_model("coords")).keypoints(asked(blind), blind)
    assert batch.mirrored().any()
    torch.testing.assert_close(place.xy, Painter(DotSource(PEOPLE)).places(batch), atol=2e-3, rtol=0)
    torch.testing.assert_close(asked.score, torch.full((PEOPLE, 4), 0.5))
    assert len(teacher.asked) == 2


@pytest.mark.parametrize("keep", ["keypoints", "maps", "features"])
def test_what_is_kept_in_memory_and_on_disk_gives_the_same_bits(tmp_path, keep):
    found = []
    for folder in (None, tmp_path, tmp_path):
        teacher = Painter(DotSource(PEOPLE))
        asked = cached(teacher, CacheConfig(folder=folder, keep=keep))
        assert bool(teacher.asked) == (len(found) < 2)
        found.append(described(asked(shown(teacher))))
        assert len(asked.features(shown(teacher))) == 1 if keep == "features" else True
    for other in found[1:]:
        assert found[0].keys() == other.keys()
        assert all(torch.equal(found[0][name], other[name]) for name in other)


def test_the_first_cell_of_the_features_is_learnt_once_and_found_again(tmp_path):
    """Strided convolutions have it at the first px, and pooling amid those under it."""
    teacher = Painter(DotSource(PEOPLE))
    config = CacheConfig(folder=tmp_path, keep="features")
    assert cached(teacher, config).kept.form.first_cell == 1.5
    teacher.features = lambda batch: pytest.fail("asked again")
    assert cached(teacher, config).kept.form.first_cell == 1.5


def test_half_precision_around_it_moves_nothing():
    teacher = Painter(DotSource(PEOPLE), size=(64, 48))
    for keep in ("keypoints", "maps", "features"):
        asked, batch = cached(teacher, CacheConfig(keep=keep)), shown(teacher)
        whole = described(asked(batch))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = described(asked(batch))
        assert all(torch.equal(whole[name], half[name]) for name in whole)


# how well it agrees with itself


class Wavering(Painter):
    """Of some persons it places the second keypoint half a crop further off on the mirrored crop."""

    wavers = (3, 7)

    def drawn(self, batch):
        prediction = super().drawn(batch)
        if len(self.asked) % 2 == 0:
            off = torch.tensor([index in self.wavers for index in batch.index.tolist()])
            prediction.xy[off, 1] += torch.tensor([0.5, 0])
        return prediction


@pytest.mark.parametrize("folder", [None, "answers"])
def test_agreement_is_low_where_the_mirrored_answer_lies_elsewhere(tmp_path, folder):
    config = CacheConfig(folder=folder and tmp_path / folder, leave_out=0.1)
    for teacher in (Wavering(DotSource(PEOPLE), gives="keypoints"), Painter(DotSource(PEOPLE), gives="keypoints")):
        found = cached(teacher, config).agreement
        wavers = np.isin(np.arange(PEOPLE), Wavering.wavers)
        assert found.shape == (PEOPLE,)
        assert (found[~wavers] > 0.999).all()
        # One of four keypoints disagrees, and is worth nothing; from a folder the first teacher's answers come again.
        expected = 0.75 if folder is not None or isinstance(teacher, Wavering) else 1.0
        assert found[wavers] == pytest.approx(expected, abs=0.02)


def test_a_teacher_that_gives_features_alone_is_refused_before_it_is_asked():
    teacher = Painter(DotSource(PEOPLE))
    teacher.provides = frozenset({"features"})
    with pytest.raises(UserError, match=r"gives no keypoints whose places .* set leave_out=0"):
        cached(teacher, CacheConfig(keep="features", leave_out=0.1))
    assert not teacher.asked
    cached(teacher, CacheConfig(keep="features"))


def test_answers_that_were_kept_without_their_agreement_serve_whoever_leaves_out_nobody(tmp_path):
    for share in (0.0, 0.0):
        cached(Painter(DotSource(PEOPLE)), CacheConfig(folder=tmp_path / "without", leave_out=share))
    for share in (0.1, 0.3):
        cached(Painter(DotSource(PEOPLE)), CacheConfig(folder=tmp_path / "with", leave_out=share))
    with pytest.raises(UserError, match=r"was made for something else .agreement: nothing there"):
        cached(Painter(DotSource(PEOPLE)), CacheConfig(folder=tmp_path / "without", leave_out=0.1))


# fixed views


@pytest.mark.parametrize("gives", ["keypoints", "maps", "bins", "features"])
def test_with_fixed_views_the_answers_are_those_of_the_teacher_asked_live(gives):
    teacher = Painter(DotSource(PEOPLE), gives="maps" if gives == "features" else gives, flip_tested=False)
    asked = cached(teacher, CacheConfig(keep=gives, views=3))
    assert len(teacher.asked) == 3  # once about each view, without a flip test
    for epoch in (0, 4, 5):
        batch = shown(teacher, epoch=epoch, fixed_views=asked.fixed_views)
        assert batch.mirrored().any()
        wanted, found = teacher(batch), asked(batch)
        if gives == "maps":
            maps = torch.where(wanted.prediction.maps > 0.01, wanted.prediction.maps, 0.0)
            torch.testing.assert_close(found.prediction.maps, maps, atol=1e-3, rtol=0)
        elif gives == "features":
            torch.testing.assert_close(found.features[-1], wanted.features[-1], atol=1e-3, rtol=0)
        one, other = asked.codec.decode(found.prediction), teacher.codec.decode(wanted.prediction)
        torch.testing.assert_close(one.xy, other.xy, atol=0.02, rtol=0)  # px


TOKENS = {"name": "token", "patch": [2, 2], "dim": 16, "depth": 1, "heads": 2}


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("heatmap", {"head": TOKENS}),
        ("coords", {"head": TOKENS}),
        ("heatmap", {}),
        ("coords", {"head": "simcc", "codec": "simcc"}),
    ],
    ids=["token maps", "token coords", "maps", "bins"],
)
def test_all_that_is_kept_is_what_the_teacher_says_live_and_its_head_is_lent(kind, changes, tmp_path):
    model = small_model(kind, seed=3, **changes)
    for parameter in model.head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # as drawn at first, a head says nearly nothing
    teacher = ModelTeacher(model)
    kept = CacheConfig(keep="all", views=2, folder=tmp_path / "cache")
    cached(teacher, kept)
    asked = cached(teacher, kept)  # as it is read back
    assert asked.provides == teacher.provides
    assert asked.token_shape == teacher.token_shape
    batch = shown(teacher, epoch=1, fixed_views=asked.fixed_views)
    wanted, found = teacher(batch), asked(batch)
    torch.testing.assert_close(found.features[-1], wanted.features[-1], atol=2e-3, rtol=2e-3)
    if wanted.tokens is not None:
        torch.testing.assert_close(vars(found.tokens), vars(wanted.tokens), atol=2e-3, rtol=2e-3)
    if isinstance(found.prediction, Heatmaps):  # the highest cells of each map
        kept_cells = found.prediction.maps != 0
        assert kept_cells.sum() > PEOPLE * 4
        torch.testing.assert_close(found.prediction.maps, wanted.prediction.maps * kept_cells, atol=1e-3, rtol=1e-3)
    else:
        one, other = asked.codec.decode(found.prediction), teacher.codec.decode(wanted.prediction)
        torch.testing.assert_close(one.xy, other.xy, atol=0.05, rtol=0)  # px
    features = (asked.features(batch)[-1].requires_grad_(),)
    drawn = torch.cat([each.flatten() for each in vars(asked.head(features)).values() if each is not None])
    live = torch.cat([each.flatten() for each in vars(teacher.head(features)).values() if each is not None])
    torch.testing.assert_close(drawn, live)
    drawn.sum().backward()
    assert features[0].grad.abs().sum() > 0


def test_a_head_that_is_not_kept_is_not_lent():
    teacher = ModelTeacher(small_model())
    with pytest.raises(UserError, match="has no head to lend"):
        cached(teacher, CacheConfig(keep="features")).head((torch.zeros(1, 16, 8, 6),))


def test_fixed_views_are_the_same_for_all_seeds_and_ways_and_come_by_turns():
    source = DotSource(PEOPLE)
    views = FixedViews(3, seed=5)
    common = {"size": SIZE, "augment": AUGMENT, "fixed_views": views}
    datasets = [TopDownDataset(source, seed=1, **common), TopDownDataset(source, seed=2, **common),
                CropsInMemory(source, seed=7, **common)]  # fmt: skip
    pairs = [(epoch, index) for epoch in range(4) for index in range(PEOPLE)]
    batches = [dataset.__getitems__(pairs) for dataset in datasets]
    assert all(torch.equal(each.to_image, batches[0].to_image) for each in batches)
    assert torch.equal(batches[0].image, batches[1].image)
    by_epoch = batches[0].to_image.unflatten(0, (4, PEOPLE))
    assert torch.equal(by_epoch[0], by_epoch[3])  # the fourth epoch shows the first view again
    assert not torch.isclose(by_epoch[0], by_epoch[1]).flatten(1).all(dim=1).any()
    assert batches[0].view.unflatten(0, (4, PEOPLE))[:, 0].tolist() == [0, 1, 2, 0]
    other = TopDownDataset(source, **{**common, "fixed_views": FixedViews(3, seed=6)}).__getitems__(pairs)
    assert not torch.equal(other.to_image, batches[0].to_image)
    assert TopDownDataset(source, size=SIZE, augment=AUGMENT).__getitems__(pairs).view is None


def test_a_persons_views_do_not_depend_on_who_else_is_there():
    source, views = DotSource(PEOPLE), FixedViews(2)
    some = Labels(np.array([7, 3]), np.ones(2, dtype=bool))
    few = TopDownDataset(source, size=SIZE, augment=AUGMENT, fixed_views=views, labels=some).__getitems__([(1, 1)])
    all_of_them = TopDownDataset(source, size=SIZE, augment=AUGMENT, fixed_views=views).__getitems__([(1, 3)])
    assert torch.equal(few.to_image, all_of_them.to_image)


# in a run


@pytest.fixture
def folder(tmp_path):
    """A model folder, whose model is a teacher of heatmaps that lends features."""
    small_model("heatmap", seed=5).save(tmp_path / "teacher")
    return tmp_path / "teacher"


@contextmanager
def counted(monkeypatch):
    """The sizes of the batches that model teachers are asked about."""
    asked, call = [], ModelTeacher.__call__
    with monkeypatch.context() as patch:
        patch.setattr(ModelTeacher, "__call__", lambda self, batch: (asked.append(len(batch)), call(self, batch))[1])
        yield asked


def ready(run, count=24):
    return set_up(run, Sources(DotSource(count), DotSource(8)), device=torch.device("cpu"), world=1, log=QUIET)


@pytest.mark.parametrize(("keep", "views"), [("keypoints", 0), ("maps", 0), ("features", 0), ("maps", 2)])
def test_a_second_run_asks_nobody_whatever_its_seed(monkeypatch, tmp_path, folder, keep, views):
    method = {"keypoints": "pseudo_label", "maps": "simulated_heatmap", "features": "pkd"}[keep]
    cache = {"folder": str(tmp_path / "cache"), "keep": keep, "views": views}
    questions = []
    for seed in (0, 1):
        run = small_run("coords", method=method, teacher={"name": str(folder), "cache": cache}, seed=seed)
        with counted(monkeypatch) as asked:
            parts = ready(run)
        questions.append(asked)
        assert parts.dataset.teacher_size is None  # nobody looks at a teacher's crop
        losses = parts.distiller(parts.dataset.__getitems__(parts.batches.batch(9)), 0.5)
        assert all(torch.isfinite(each) for each in losses.values())
    assert questions == [[24] * 2, []]  # upright and mirrored, or two views
    other = small_run("coords", method=method, teacher={"name": str(folder), "cache": cache}, seed=2)
    with pytest.raises(UserError, match="was made for something else .persons.count: 24 there, 20 here."):
        ready(other, count=20)


def test_runs_of_other_labels_share_a_cache_and_another_teacher_is_refused(monkeypatch, tmp_path, folder):
    cache = {"folder": str(tmp_path / "cache")}
    run = small_run("coords", method="tcd", teacher={"name": str(folder), "cache": cache})
    ready(run)
    few = run.model_copy(update={"data": run.data.model_copy(update={"labelled": 3})})
    with counted(monkeypatch) as asked:
        ready(few)
    assert not asked
    small_model("heatmap", seed=6).save(tmp_path / "other")
    with pytest.raises(UserError, match=r"was made for something else .teacher.sha256: "):
        ready(small_run("coords", method="tcd", teacher={"name": str(tmp_path / "other"), "cache": cache}))


def test_people_without_labels_are_left_out_where_the_teacher_agrees_least(monkeypatch, folder):
    agreement = np.linspace(1, 0, 24)
    monkeypatch.setattr(CachedTeacher, "agreement", agreement)
    run = small_run("coords", method="pseudo_label", teacher={"name": str(folder), "cache": {"leave_out": 0.25}})
    run = run.model_copy(update={"data": run.data.model_copy(update={"labelled": 4})})
    log = Said()
    parts = set_up(run, Sources(DotSource(24), DotSource(8)), device=torch.device("cpu"), world=1, log=log)
    hidden = np.flatnonzero(~parts.labels.shown)
    left_out = hidden[np.argsort(agreement[hidden])[:5]]
    drawn = {index for step in range(60) for _, index in parts.batches.batch(step)}
    assert drawn == set(range(24)) - set(left_out.tolist())
    assert len(parts.dataset) == 24  # the answers keep their places
    assert parts.people == 19
    assert "left out: 5 of 20 people without labels, on whom the teacher's answers upright and mirrored" in log.text
    monkeypatch.setattr(CachedTeacher, "agreement", np.full(24, np.nan))
    with pytest.raises(UserError, match=r"teacher.cache.leave_out: the teacher is sure of no keypoint of the 24 peop"):
        ready(run.model_copy(update={"data": run.data.model_copy(update={"labelled": 0})}))


@pytest.mark.parametrize("sampler", ["by_person", "by_image"])
def test_who_is_left_out_follows_from_what_the_teacher_says(monkeypatch, tmp_path, folder, sampler):
    run = small_run("coords", method="pseudo_label", teacher={"name": str(folder), "cache": {"leave_out": 0.1}})
    run = run.model_copy(update={"data": run.data.model_copy(update={"labelled": 0, "sampler": sampler})})
    monkeypatch.setattr(type(run.teacher), "build", lambda self: Wavering(DotSource(24), gives="keypoints"))
    parts = ready(run)
    drawn = {index for step in range(60) for _, index in parts.batches.batch(step)}
    assert set(range(24)) - drawn == set(Wavering.wavers)
    fit(run, tmp_path, sources=Sources(DotSource(24), DotSource(8)), quiet=True)
    assert json.loads((tmp_path / "eval.json").read_text())["trained_on"]["seen"] == 22


class Said(RunLog):
    def __init__(self):
        super().__init__(None, quiet=True)
        self.text = ""

    def say(self, text):
        self.text += f"{text}\n"


def test_a_dry_run_sees_that_a_folder_is_anothers_and_asks_about_its_batch_alone(monkeypatch, tmp_path, folder):
    cache = {"folder": str(tmp_path / "cache"), "keep": "maps", "views": 5}
    run = small_run("coords", method="simulated_heatmap", teacher={"name": str(folder), "cache": cache})
    sources = Sources(DotSource(24), DotSource(8))
    with counted(monkeypatch) as asked:
        try_one_batch(run, sources, log=QUIET)
    assert asked == [8]
    assert not (tmp_path / "cache").exists()
    ready(run)
    with counted(monkeypatch) as asked:
        try_one_batch(run, sources, log=QUIET)
    assert not asked
    other = {**cache, "views": 4}
    run = small_run("coords", method="simulated_heatmap", teacher={"name": str(folder), "cache": other})
    with pytest.raises(UserError, match="views.count: 5 there, 4 here"):
        try_one_batch(run, sources, log=QUIET)


SIMCC = {"head": "simcc", "codec": "simcc"}
FITS = [
    ("pseudo_label", "keypoints"), ("pseudo_label", "maps"), ("pseudo_label", "features"), ("tcd", "keypoints"),
    ("tcd", "maps"), ("simulated_heatmap", "maps"), ("pkd", "features"), ("fitnet", "features"),
    ("agentpose", "features"), ("mgd", "features"), ("fpd", "maps"), ("simcc_logits", "bins"),
    ("pseudo_label", "bins"),
    ({"name": "several", "of": ["pseudo_label", "pkd"]}, "features"),
    ({"name": "several", "of": ["pseudo_label", "simulated_heatmap"]}, "maps"),
    ("pseudo_label", "all"), ({"name": "tcd", "form": "head"}, "all"), ("agentpose", "all"),
    ("simulated_heatmap", "all"),
    ({"name": "several", "of": ["tcd", "pkd"]}, "all"),
]  # fmt: skip
LACKS = [
    ("pkd", "keypoints", "needs the teacher's features, and of its answers only the keypoints are kept: set keep=feat"),
    ("agentpose", "maps", "needs the teacher's features, and of its answers only the maps are kept: set keep=features"),
    ("distilpose", "features", "needs the teacher's tokens, .* only the features are kept: keep all, with views"),
    ("simulated_heatmap", "keypoints", r"its heatmaps are needed.*keep its maps \(teacher.cache=\{keep: maps\}\)"),
    (
        "simulated_heatmap",
        "features",
        "its heatmaps are needed, .*of the teacher's answers teacher.cache keeps the fea",
    ),
    ({"name": "tcd", "form": "helper"}, "keypoints", "its heatmaps are needed"),
    ({"name": "tcd", "form": "head"}, "features", "does not lend its head"),
    ("simcc_logits", "keypoints", "the teacher none: .*of the teacher's answers teacher.cache keeps the keypoints"),
    ({"name": "several", "of": ["tcd", "pkd"]}, "maps", "needs the teacher's features"),
    ("supervised", "keypoints", "has no use for a teacher"),
]


def name_of(method):
    return method if isinstance(method, str) else "-".join(map(str, method.values()))


def run_of(method, keep, tmp_path):
    bins = keep == "bins" or method == "simcc_logits"
    small_model(**(SIMCC if bins else {}), seed=5).save(tmp_path / "teacher")
    kind = "heatmap" if method == "fpd" else "coords"
    model = small_model_config(kind, **(SIMCC if bins else {}))
    teacher = {"name": str(tmp_path / "teacher"), "cache": {"keep": keep, "views": 2 if bins or keep == "all" else 0}}
    return small_run(kind, model=model.model_dump(mode="json"), method=method, teacher=teacher)


@pytest.mark.parametrize(("method", "keep"), FITS, ids=lambda each: name_of(each))
def test_a_method_is_content_with_what_suffices(tmp_path, method, keep):
    parts = ready(run_of(method, keep, tmp_path))
    batch = parts.dataset.__getitems__(parts.batches.batch(3))
    parts.distiller.train()
    losses = parts.distiller(batch, 0.5)
    torch.stack(list(losses.values())).sum().backward()
    assert all(torch.isfinite(each) for each in losses.values())


@pytest.mark.parametrize(("method", "keep", "message"), LACKS, ids=lambda each: name_of(each)[:24])
def test_a_method_is_refused_before_anyone_is_asked_where_it_does_not(tmp_path, monkeypatch, method, keep, message):
    run = run_of(method, keep, tmp_path)
    with counted(monkeypatch) as asked, pytest.raises(UserError, match=message) as caught:
        ready(run)
    assert not asked
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"keep": "bins"}, "teacher.cache: keep: bins of the upright crop cannot be turned"),
        ({"keep": "all"}, "teacher.cache: keep: all that a teacher says holds for the very crop that it saw"),
        ({"foldr": "x"}, "teacher.cache.foldr: no such key; did you mean 'folder'?"),
        ({"keep": "map"}, "teacher.cache.keep: .*given: 'map'"),
        ({"views": -1}, "teacher.cache.views: "),
        ({"leave_out": 1}, "teacher.cache.leave_out: "),
        ({"views": 2, "leave_out": 0.2}, "teacher.cache: leave_out: .* set leave_out=0 or views=0"),
        ("yes", "teacher.cache: true, false, or a mapping of folder, keep, views, seed, leave_out"),
    ],
)
def test_wrong_settings_are_named_by_their_path(given, message):
    with pytest.raises(UserError, match=message):
        small_run(teacher={"name": "bundled", "cache": given})


def test_true_is_the_default_of_the_mapping_and_stays_true_in_a_dump():
    read = {value: validate(TeacherConfig, {"cache": value}, where="test") for value in (True, False)}
    assert read[True].kept == CacheConfig()
    assert read[False].kept is None
    assert read[True].model_dump()["cache"] is True
    mapping = validate(TeacherConfig, {"cache": {"views": 2}}, where="test")
    assert mapping.kept == CacheConfig(views=2)
    assert validate(TeacherConfig, mapping.model_dump(mode="json"), where="test") == mapping


def test_pictures_without_labels_can_be_judged_by_every_kind_of_answer():
    """How sure the teacher was of each person, whatever is kept."""
    for keep, gives in (("keypoints", "maps"), ("maps", "maps"), ("features", "maps"), ("bins", "bins")):
        teacher = Painter(DotSource(70), gives=gives, flip_tested=keep != "bins")
        asked = cached(teacher, CacheConfig(keep=keep, views=2 if keep == "bins" else 0), source=DotSource(70))
        assert asked.score.shape == (70, 4)
        assert asked.score.mean() > 0.7


@pytest.mark.parametrize(("keep", "views"), [("keypoints", 0), ("maps", 3), ("features", 0)])
@pytest.mark.parametrize("crops", [None, {}])
def test_a_resumed_run_on_kept_answers_is_the_same_bit_for_bit(tmp_path, folder, keep, views, crops):
    method = {"keypoints": "pseudo_label", "maps": "simulated_heatmap", "features": "pkd"}[keep]
    cache = {"folder": str(tmp_path / "cache"), "keep": keep, "views": views}
    base = small_run(
        "coords", method=method, teacher={"name": str(folder), "cache": cache}, evaluate={"every": 4},
        train={"steps": 8, "batch_size": 8, "log_every": 4, "save_every": 1},
    )  # fmt: skip
    content = base.model_dump(mode="json")
    content["data"]["crops"] = crops
    config = validate(type(base), content, where="test")
    save = _Run.save

    def save_and_stop(run, done):
        save(run, done)
        if done == 5:
            raise KeyboardInterrupt

    fit(config, tmp_path / "whole", sources=Sources(DotSource(24), DotSource(8)), quiet=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Run, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            fit(config, tmp_path / "parts", sources=Sources(DotSource(24), DotSource(8)), quiet=True)
    fit(config, tmp_path / "parts", sources=Sources(DotSource(24), DotSource(8)), quiet=True, resume=True)
    one, other = (load_state(tmp_path / name / "last").distiller for name in ("whole", "parts"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


# interrupted


class Killed(BaseException):
    pass


def test_an_interrupted_fill_is_completed_by_the_next_run_and_shown_on_its_bar(tmp_path, monkeypatch):
    source = DotSource(200)
    config = CacheConfig(folder=tmp_path / "cache", keep="maps")
    whole = cached(Painter(source), CacheConfig(folder=tmp_path / "whole", keep="maps"), source=source)
    first, add = Painter(source), store_module.StoreInFolder.add

    def killed_after_two(store, number, rows, passed_over):
        add(store, number, rows)
        if number == 1:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(store_module.StoreInFolder, "add", killed_after_two)
        with pytest.raises(Killed):
            cached(first, config, source=source)
    bars, said = [], []

    @contextmanager
    def bar(total, done):
        bars.append([total, done])
        yield type("Bar", (), {"advance": lambda self, count: bars[-1].append(count)})()

    second = Painter(source)
    asked = cached(second, config, source=source, bar=bar, say=said.append)
    assert bars == [[200, 128, 64, 8]]
    assert {persons[0] for persons in first.asked} == {0, 64}
    assert {persons[0] for persons in second.asked} == {128, 192}
    assert not said
    for name in ("cell.npy", "height.npy", "cache.json", "chunks.jsonl", "persons.npy"):
        assert (tmp_path / "cache" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    batch = TopDownDataset(source, size=SIZE, augment=AUGMENT).__getitems__([(0, 5), (0, 150)])
    assert torch.equal(asked(batch).prediction.maps, whole(batch).prediction.maps)
    cached(second, config, source=source, bar=bar)
    assert len(bars) == 1  # nothing is asked, and no bar is shown


def test_it_is_said_what_a_folder_will_hold_and_that_it_is_there(tmp_path):
    said, folder = [], tmp_path / "cache"
    for _ in range(2):
        cached(Painter(DotSource(PEOPLE)), CacheConfig(folder=folder, views=3), say=said.append)
    assert said == [
        f"{folder} will hold the teacher's answers about 20 persons, 144 bytes each, 0.0 MB in all",
        f"{folder} has the teacher's answers about all 20 persons: it is not asked",
    ]


@pytest.mark.slow
def test_ten_killed_processes_leave_the_bytes_of_an_undisturbed_one(tmp_path):
    """Real processes with the bundled teacher, killed by SIGKILL; each notes whom it asks about."""
    times, steps = np.random.default_rng(0), []
    assert finished(tmp_path, "whole") == set(range(12))
    for _ in range(10):
        before = recorded(tmp_path / "parts")
        process = subprocess.Popen(command(tmp_path, "parts"), cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        time.sleep(times.uniform(0, 0.9))  # a chunk takes some tenths of a second
        process.send_signal(signal.SIGKILL)
        asked = numbers(process.communicate()[0])
        assert not asked & before
        steps.append(len(recorded(tmp_path / "parts")) - len(before))
    assert sum(steps) > 2, steps  # the kills did not come before everything
    before = recorded(tmp_path / "parts")
    assert not finished(tmp_path, "parts") & before
    for path in (tmp_path / "whole").iterdir():
        if path.name not in ("lock", "complete.json"):
            assert (tmp_path / "parts" / path.name).read_bytes() == path.read_bytes(), path.name


ROOT = Path(__file__).parents[2]
FILL = """
import sys, torch
import numpy as np
from pathlib import Path
from posestill.data.augment import NO_AUGMENT
from posestill.data.synthetic.people import SyntheticConfig
from posestill.data.topdown import Labels
from posestill.teachers.base import CacheConfig, ModelTeacher
from posestill.teachers.cache import CachedTeacher
from posestill.teachers.checkpoint import BundledConfig
torch.set_num_threads(1)
call = ModelTeacher.__call__
ModelTeacher.__call__ = lambda self, batch: (print(int(batch.index[0]) // 64, flush=True), call(self, batch))[1]
source, teacher = SyntheticConfig(people=750, seed=5).build(), BundledConfig().build()
asked = CachedTeacher(teacher, size=(64, 48), config=CacheConfig(folder=Path(sys.argv[1]), keep="maps"))
labels = Labels(np.arange(750), np.ones(750, dtype=bool))
crops = asked.crops_to_ask_about(teacher, source, labels, NO_AUGMENT)
print("ready", flush=True)
asked.ask(teacher, crops)
"""


def command(tmp_path, name):
    return [sys.executable, "-c", FILL, str(tmp_path / name)]


def finished(tmp_path, name):
    """The chunks that an undisturbed process asks about."""
    return numbers(subprocess.run(command(tmp_path, name), cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def numbers(text):
    return {int(line) for line in text.split() if line.isdigit()}


def recorded(folder):
    path = folder / "chunks.jsonl"
    text = path.read_text() if path.is_file() else ""
    return {int(each) for each in re.findall(r'"chunk": (\d+), "crc32": "\w{8}"', text)}


def test_a_teacher_whose_partners_nobody_knows_is_asked_once_a_person_and_leaves_nobody_out():
    teacher = Painter(DotSource(PEOPLE), gives="keypoints", flip_tested=False)
    teacher.skeleton = teacher.skeleton.model_copy(update={"partners_known": False})
    asked = cached(teacher)
    assert [sorted(set(persons)) for persons in teacher.asked] == [list(range(PEOPLE))]
    batch = shown(teacher)
    place = Bridge(asked, small_model("coords")).keypoints(asked(batch), batch)
    upright = ~batch.mirrored()
    torch.testing.assert_close(place.xy[upright], teacher.places(batch)[upright], atol=2e-3, rtol=0)
    with pytest.raises(UserError, match="leave_out: nothing tells which of the teacher's keypoints are mirror"):
        CachedTeacher(teacher, size=SIZE, config=CacheConfig(leave_out=0.5))


class Holed(DotSource):
    """People made of dots; one picture is broken."""

    broken = {7}

    def image(self, image_id):
        if image_id in self.broken:
            raise UserError(f"image {image_id}.jpg is cut off: fetch it again")
        return super().image(image_id)


def test_who_could_not_be_seen_has_no_answer_and_is_asked_about_once_the_picture_is_there(tmp_path):
    source, said = Holed(PEOPLE), []
    config = CacheConfig(folder=tmp_path)
    score = cached(Painter(source, gives="keypoints"), config, source=source).score
    assert (score[6] == 0).all()
    assert (torch.cat([score[:6], score[7:]]) > 0).all()
    again = Painter(source, gives="keypoints")
    cached(again, config, source=source, say=said.append)
    assert not again.asked  # still broken, and known to be
    source.broken = set()
    mended = cached(again, config, source=source, say=said.append)
    assert (mended.score > 0).all()
    assert "lack a picture that can be read now: asking about them again" in " ".join(said)
    whole = cached(Painter(DotSource(PEOPLE), gives="keypoints"))
    batch = shown(again)
    torch.testing.assert_close(mended(batch).prediction.xy, whole(batch).prediction.xy)
