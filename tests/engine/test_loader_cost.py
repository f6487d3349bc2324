import cProfile
from dataclasses import replace

import pytest

from posestill.data.crops import CropsConfig
from posestill.data.topdown import TopDownDataset
from posestill.engine.loader_cost import LoaderCost, advice, stages_of
from tests.conftest import DotSource, small_run

SLOW = LoaderCost(
    stages={"draw": 100.0, "decode": 2400.0, "warp": 300.0, "colour": 0.0, "collate": 200.0},
    encode=5.0, step=1000.0, persons_per_picture=2.6, plain_pixels=10**9, memory=10**10,
)  # fmt: skip


def run(*, workers=0, **data):
    config = small_run()
    train = config.train.model_copy(update={"workers": workers})
    return config.model_copy(update={"train": train, "data": config.data.model_copy(update=data)})


def test_rates_by_hand():
    assert SLOW.loading == 3000
    assert SLOW.slowest == "decode"
    assert SLOW.loads(0) == SLOW.loads(1) == pytest.approx(1e6 / 3000)
    assert SLOW.trains(0) == 250  # 3000 and 1000 microseconds, one after the other
    assert SLOW.trains(2) == pytest.approx(2e6 / 3000)
    assert SLOW.trains(4) == 1000  # the step takes no more


def test_a_loader_that_decodes_slowly_is_told_of_every_remedy():
    told = advice(SLOW, run(), cores=8)
    assert told[0] == "Loading is the limit, and decode is its slowest stage (80 %)."
    assert [line.split(":")[0] for line in told[1:]] == [
        "train.workers=3", "data.sampler=by_image", "`posestill data pack RECIPE --crops --out FILE`, then data.crops"
        ".file=FILE", "data.crops={}",
    ]  # fmt: skip
    assert "2.6 persons" in told[2]
    assert "1.0 GB" in told[4]


def test_what_is_set_already_or_cannot_help_is_not_said():
    told = " ".join(advice(replace(SLOW, plain_pixels=9 * 10**9), run(workers=2, sampler="by_image"), cores=2))
    assert "Loading is the limit" in told
    assert "workers" not in told
    assert "by_image" not in told
    assert "data.crops={}" not in told
    assert "by_image" not in " ".join(advice(replace(SLOW, persons_per_picture=1.1), run(), cores=8))


def test_too_few_cores_are_named():
    assert "train.workers=2: " in advice(SLOW, run(), cores=2)[1]
    assert "3 would keep up with the step, and there are 2 cores" in advice(SLOW, run(), cores=2)[1]


def test_a_step_that_is_slower_is_the_limit():
    assert advice(SLOW, run(workers=4), cores=8) == [
        "The training step is the limit: crops come 1.3 times as fast as it takes them."
    ]
    assert "The training step is the limit" in advice(replace(SLOW, step=40000.0), run(), cores=8)[0]


def test_packed_crops_and_colours_have_remedies_of_their_own(tmp_path):
    packed = run(workers=8, crops=CropsConfig(file=tmp_path / "crops"))
    assert advice(replace(SLOW, step=100.0), packed, cores=8)[1].startswith(
        "Pack again with a lower data.crops.density"
    )
    coloured = replace(SLOW, stages={**SLOW.stages, "colour": 9000.0})
    assert "data.augment.colour=0" in advice(coloured, run(workers=2), cores=2)[1]
    warped = replace(SLOW, stages={**SLOW.stages, "warp": 9000.0})
    assert "a smaller model.size" in advice(warped, run(workers=2), cores=2)[1]


def test_stages_of_a_batch_add_up_to_its_time():
    dataset, profile = TopDownDataset(DotSource(8), size=(64, 48)), cProfile.Profile()
    profile.runcall(dataset.__getitems__, [(0, index) for index in range(8)])
    found = stages_of(profile, 8)
    assert set(found) == {"draw", "decode", "warp", "colour", "collate"}
    assert all(found[stage] > 0 for stage in ("draw", "decode", "warp", "collate"))
    assert found["colour"] == 0
