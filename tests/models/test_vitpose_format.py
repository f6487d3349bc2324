import pytest
import torch

from posestill.models.convert import known_skeleton
from posestill.models.hub import find_network
from posestill.models.pose_model import PoseModel
from posestill.models.vitpose_format import read_vitpose, their_name, write_vitpose
from posestill.schema import UserError
from posestill.skeletons import COCO_17
from tests.conftest import DOTS, small_model
from tests.saved import IMAGENET, SIZE, TINY_VITPOSE, save_sapiens, save_vitpose

CLASSIC = {"head": {"name": "deconv", "channels": [256, 256]}}


def read(folder, **settings):
    return read_vitpose(find_network(str(folder), where="test"), keypoints=known_skeleton, **settings)


def heatmaps(network, image, **given):
    mean, std = IMAGENET
    with torch.no_grad():
        return network((image - mean) / std, **given).heatmaps


@pytest.mark.parametrize(
    ("settings", "dataset_index"),
    [({}, 0), ({"use_simple_decoder": False}, 0), ({"experts": 3}, 1)],
    ids=["VitPose", "with the classic head", "VitPose++"],
)
def test_what_the_library_saved_computes_the_same_here_and_when_it_is_saved_back(settings, dataset_index, tmp_path):
    network = save_vitpose(tmp_path / "theirs", **settings)
    image = torch.rand(2, 3, *SIZE)
    given = {"dataset_index": torch.full((2,), dataset_index)} if "experts" in settings else {}
    wanted = heatmaps(network, image, **given)
    model = read(tmp_path / "theirs", dataset_index=dataset_index)
    with torch.no_grad():
        torch.testing.assert_close(model(image).prediction.maps, wanted, rtol=0, atol=1e-5)
    write_vitpose(model, tmp_path / "back")
    again, told = type(network).from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not any(told.values())
    for name, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    torch.testing.assert_close(heatmaps(again.eval(), image, **given), wanted, rtol=0, atol=0)


@pytest.mark.parametrize("changes", [{}, CLASSIC], ids=["simple", "classic"])
def test_a_student_of_ours_is_read_by_the_library_with_names_and_input(changes, tmp_path):
    library = pytest.importorskip("transformers")
    model = small_model(**{**TINY_VITPOSE, **changes}).eval()
    write_vitpose(model, tmp_path)
    network = library.AutoModelForPoseEstimation.from_pretrained(tmp_path).eval()
    image = torch.rand(2, 3, 64, 48)
    with torch.no_grad():
        torch.testing.assert_close(heatmaps(network, image), model(image).prediction.maps, rtol=0, atol=1e-5)
    assert [network.config.id2label[index] for index in range(4)] == list(DOTS.names)
    assert [list(edge) for edge in network.config.edges] == [list(edge) for edge in DOTS.edges]
    processor = library.AutoImageProcessor.from_pretrained(tmp_path)
    assert (processor.size["height"], processor.size["width"]) == (64, 48)
    back = read(tmp_path)
    assert (back.skeleton.names, back.skeleton.swap, back.skeleton.edges) == (DOTS.names, DOTS.swap, DOTS.edges)
    assert back.config.model_dump() == model.config.model_dump()


def test_a_model_that_is_no_vitpose_of_theirs_is_refused_and_nothing_is_written(tmp_path):
    for changes, said in [
        ({"head": {"name": "deconv", "channels": [64, 64]}}, r"this model is another$"),
        ({"codec": {"name": "heatmap", "stride": 4}}, r"on the UDP grid, and this model was trained on another"),
    ]:
        with pytest.raises(UserError, match=said):
            write_vitpose(small_model(**{**TINY_VITPOSE, **changes}), tmp_path / "out")
    with pytest.raises(UserError, match="this model is another"):
        write_vitpose(small_model(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_network_and_other_colours_are_refused(tmp_path):
    save_sapiens(tmp_path / "sapiens")
    with pytest.raises(UserError, match="is a sapiens2, and a vitpose is wanted"):
        read(tmp_path / "sapiens")
    save_vitpose(tmp_path / "other")
    (tmp_path / "other" / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5]}')
    with pytest.raises(UserError, match=r"has an image_mean of \[0.5, 0.5, 0.5\]"):
        read(tmp_path / "other")


def test_tensors_that_are_missing_are_named(tmp_path):
    from safetensors.torch import load_file, save_file

    save_vitpose(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["backbone.layernorm.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"does not fit this model \(1 keys\): missing backbone\.norm\.weight"):
        read(tmp_path)
    del weights["head.conv.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"has no head\.conv\.weight: it is no pose estimator"):
        read(tmp_path)


def test_numbered_keypoints_are_those_of_the_known_set_and_the_origin_is_kept(tmp_path):
    save_vitpose(tmp_path)
    model = read(tmp_path)
    assert model.skeleton == COCO_17
    model.save(tmp_path / "model")
    assert PoseModel.load(tmp_path / "model").lineage["converted_from"] == str(tmp_path)


def test_a_tensor_that_is_no_vitposes_has_no_name_there():
    assert their_name("backbone.layers.11.experts.3.bias") == "backbone.encoder.layer.11.mlp.experts.3.bias"
    with pytest.raises(UserError, match=r"nothing like neck\.weight"):
        their_name("neck.weight")
