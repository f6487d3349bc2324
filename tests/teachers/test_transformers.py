import json
import sys
from pathlib import Path

import pytest
import torch

from posestill.models.hub import SavedNetwork
from posestill.models.pose_model import PoseModel
from posestill.schema import UserError
from posestill.teachers.base import CacheConfig, ModelTeacher
from posestill.teachers.bridge import Bridge, worth_knowing
from posestill.teachers.cache import CachedTeacher
from posestill.teachers.checkpoint import CheckpointConfig
from posestill.teachers.keypoint_sets import KEYPOINT_SETS
from posestill.teachers.transformers import TransformersConfig, TransformersTeacher
from posestill.types import PoseBatch
from tests.conftest import small_model
from tests.saved import IMAGENET, SIZE, save_sapiens, save_vitpose


def batch(image):
    """Crops as a teacher is shown them."""
    count = len(image)
    return PoseBatch(
        image=image,
        keypoints=torch.zeros(count, 17, 2),
        weight=torch.zeros(count, 17),
        to_image=torch.eye(2, 3).expand(count, 2, 3),
        index=torch.arange(count),
    )


def crops(count=2):
    return torch.randint(0, 256, (count, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("save", "settings", "dataset_index"),
    [
        (save_vitpose, {}, 0),
        (save_vitpose, {"use_simple_decoder": False}, 0),
        (save_vitpose, {"experts": 3}, 2),
        (save_sapiens, {}, 0),
    ],
    ids=["VitPose", "VitPose with the classic head", "VitPose++", "Sapiens2"],
)
def test_a_teacher_answers_as_the_library_does(save, settings, dataset_index, tmp_path):
    network = save(tmp_path, **settings)
    teacher = TransformersConfig(path=tmp_path, dataset_index=dataset_index).build()
    answer = teacher(batch(crops()))
    mean, std = IMAGENET
    given = {"dataset_index": torch.full((2,), dataset_index)} if "experts" in settings else {}
    with torch.no_grad():
        wanted = network((crops().float() / 255 - mean) / std, **given).heatmaps
    torch.testing.assert_close(answer.prediction.maps, wanted, rtol=0, atol=1e-5)
    assert wanted.std() > 1e-3
    assert teacher.feature_shapes == (tuple(answer.features[-1].shape[1:]),)
    assert teacher.provides == {"prediction", "features", "head"}
    assert teacher.input_size == SIZE


def test_another_expert_gives_another_answer(tmp_path):
    save_vitpose(tmp_path, experts=3)
    one, other = (TransformersConfig(path=tmp_path, dataset_index=index).build() for index in (0, 1))
    assert not torch.allclose(one(batch(crops())).prediction.maps, other(batch(crops())).prediction.maps)
    with pytest.raises(UserError, match=r"no expert 3: it has 0 COCO, 1 AI Challenger, 2 MPII$"):
        TransformersConfig(path=tmp_path, dataset_index=3).build()


def test_its_head_lets_gradients_through_to_somebodys_features(tmp_path):
    save_vitpose(tmp_path)
    teacher = TransformersConfig(path=tmp_path).build()
    features = torch.randn(1, *teacher.feature_shapes[-1], requires_grad=True)
    teacher.head((features,)).maps.square().sum().backward()
    assert features.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in teacher.network.parameters())


def test_heatmaps_lie_on_the_udp_grid_with_the_spread_of_their_training(tmp_path):
    save_vitpose(tmp_path / "v")
    save_sapiens(tmp_path / "s")
    vitpose, sapiens = (TransformersConfig(path=tmp_path / name).build() for name in "vs")
    # The last px of 64x48 and the last cell of 16x12 coincide.
    assert vitpose.codec.form.to_map(torch.tensor([47.0, 63.0])).tolist() == pytest.approx([11, 15])
    assert (vitpose.codec.form.sigma, sapiens.codec.form.sigma) == (2.0, 6.0)


def test_keypoints_of_sapiens_meet_cocos_by_name_wherever_they_stand(tmp_path):
    save_sapiens(tmp_path)
    teacher = TransformersConfig(path=tmp_path).build()
    assert len(teacher.skeleton) == 308
    student = small_model(skeleton=KEYPOINT_SETS["coco"])
    bridge = Bridge(teacher, student)
    assert bridge.without == ()
    # 9 and 10 are Sapiens' hips; its wrists close its hands, the right one at 41 and the left one at 62.
    assert bridge.source.tolist() == [*range(9), 62, 41, 9, 10, 11, 12, 13, 14]


def test_names_and_partners_that_the_settings_tell_are_taken(tmp_path):
    save_sapiens(tmp_path, id2label={index: f"point {index}" for index in range(308)}, flip_pairs=[[3, 300]])
    skeleton = TransformersConfig(path=tmp_path).build().skeleton
    assert skeleton.names[3] == "point 3"
    assert (skeleton.swap[3], skeleton.swap[300], skeleton.swap[4]) == (300, 3, 4)


def test_numbered_keypoints_of_no_known_set_are_refused(tmp_path):
    save_vitpose(tmp_path, num_labels=5)
    with pytest.raises(UserError, match=r"only numbers its 5 keypoints, and no known set has as many: name them by"):
        TransformersConfig(path=tmp_path).build()


def test_a_path_alone_is_enough_and_the_lineage_says_what_taught(tmp_path):
    save_vitpose(tmp_path)
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A card\n")
    teacher = CheckpointConfig(path=tmp_path).build()
    assert teacher.lineage["licence"] == "apache-2.0"
    assert teacher.lineage["path"] == str(tmp_path)
    assert len(teacher.lineage["sha256"]) == 64
    assert "licence (cc-by-nc-4.0)" in " ".join(
        worth_knowing(
            TransformersConfig(path=tmp_path, licence="cc-by-nc-4.0").build(),
            small_model(skeleton=KEYPOINT_SETS["coco"]),
        )
    )


def test_a_commit_that_nobody_asked_for_is_told_when_a_run_starts(tmp_path):
    save_vitpose(tmp_path)
    student = small_model(skeleton=KEYPOINT_SETS["coco"])
    teacher = TransformersTeacher(SavedNetwork(tmp_path, "hf:owner/name@0123", is_pinned=False))
    said = "the teacher is hf:owner/name@0123: name this commit in the recipe, so that it stays the same"
    assert worth_knowing(teacher, student) == [said]
    assert CachedTeacher(teacher, size=(32, 24), config=CacheConfig()).remarks == (said,)
    assert teacher.lineage["path"] == "hf:owner/name@0123"
    assert TransformersTeacher(SavedNetwork(tmp_path, "hf:owner/name@0123")).remarks == ()


def test_tensors_that_are_missing_are_named(tmp_path):
    from safetensors.torch import load_file, save_file

    save_vitpose(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["head.conv.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 tensors of a VitPoseForPoseEstimation, such as head\.conv\.weight"):
        TransformersConfig(path=tmp_path).build()


def test_a_network_of_another_kind_and_a_folder_without_weights_are_refused_in_a_sentence(tmp_path):
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UserError, match=r"is a bert; the pose estimators of transformers that can teach are vitpose"):
        TransformersConfig(path=tmp_path).build()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vitpose"}))
    with pytest.raises(UserError, match=r"has no weights as \.safetensors"):
        TransformersConfig(path=tmp_path).build()


def test_without_the_extra_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    for path in (Path("hf:owner/name"), tmp_path):
        with pytest.raises(UserError, match=r'needs the package transformers, .*: pip install "posestill\[hf\]"$'):
            TransformersConfig(path=path).build()


def test_a_posestill_folder_needs_no_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    model = small_model()
    model.save(tmp_path)
    assert isinstance(CheckpointConfig(path=tmp_path).build(), ModelTeacher)
    assert PoseModel.load(tmp_path).skeleton == model.skeleton


def test_settings_of_the_hubs_networks_are_pointed_to_their_entry():
    with pytest.raises(ValueError, match=r"has dataset_index as \{name: transformers, path: hf:a/b, \.\.\.\}"):
        CheckpointConfig.model_validate({"path": "hf:a/b", "dataset_index": 1})
