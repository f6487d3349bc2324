import pytest
import torch

from posestill.engine.log import RunLog
from posestill.engine.sense import memory_of, refuse_beyond_memory, refuse_large_features, settled, told_of
from posestill.schema import UserError
from posestill.skeletons import from_category
from tests.conftest import DOTS, DotSource, small_run

CPU = torch.device("cpu")
QUIET = RunLog(None, quiet=True)


def test_without_known_partners_nothing_is_mirrored():
    unknown = from_category({"keypoints": ["a", "b", "c"]})
    config = settled(small_run(), unknown, QUIET)
    assert (config.data.augment.flip, config.evaluate.flip_test) == (0.0, False)
    assert settled(config, unknown, QUIET) is config  # a resumed run finds the same settings
    for known in (
        DOTS,
        from_category({"keypoints": ["a", "b"]}, {"flip_pairs": []}),
        from_category({"keypoints": ["a"]}),
    ):
        assert settled(small_run(), known, QUIET).data.augment.flip == 0.5


def test_a_batch_of_crops_beyond_the_memory_is_refused_with_its_size():
    run = small_run()
    crop = 4 * 3 * 32 * 24  # bytes
    fitting = int(memory_of(CPU) / crop)
    for batch, refused in ((1000, False), (2 * fitting, True)):
        train = run.train.model_copy(update={"batch_size": batch})
        config = run.model_copy(update={"train": train})
        if refused:
            with pytest.raises(UserError, match=f"train.batch_size: {batch} crops of 32 x 24 px take .* GiB"):
                refuse_beyond_memory(config, DOTS, CPU)
        else:
            refuse_beyond_memory(config, DOTS, CPU)


def test_a_network_beyond_the_memory_is_refused_before_it_is_built():
    run = small_run("coords", model={
        "size": [32, 24], "backbone": {"name": "small_resnet", "channels": [8, 10**6]}, "head": "flat_fc",
        "codec": "coords"})  # fmt: skip
    with pytest.raises(UserError, match="model: its weights take"):
        refuse_beyond_memory(run, DOTS, CPU)


def test_feature_maps_count_with_their_gradients():
    run = small_run()  # 8 persons: 2 * 4 bytes * 8 * C * h * w
    side = int((memory_of(CPU) / (2 * 4 * 8)) ** 0.5)
    refuse_large_features(run, ((1, side // 2, side),), CPU)
    with pytest.raises(UserError, match="the feature maps of 8 persons take"):
        refuse_large_features(run, ((2, side, side),), CPU)


def test_figures_say_who_was_trained_on():
    told = told_of(DotSource(5, unlabelled=2))
    assert told == {"persons": {"labelled": 3, "unlabelled": 2, "crowds": 0, "without_bbox": 0}, "notes": []}
