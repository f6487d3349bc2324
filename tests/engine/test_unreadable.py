import json

import numpy as np
import pytest

from posestill.data.crops import CropsConfig, CropsInMemory
from posestill.data.loading import batch_loader
from posestill.data.topdown import Labels, TopDownDataset
from posestill.engine.fit import fit
from posestill.engine.log import RunLog
from posestill.engine.setup import Sources
from posestill.engine.unreadable import PassedOver, refuse_many
from posestill.schema import UserError
from tests.conftest import DotSource, small_run

SIZE = (32, 24)


class Holed(DotSource):
    """People made of dots, some of whose pictures are broken."""

    def __init__(self, count, broken):
        super().__init__(count)
        self.broken = set(broken)

    def image(self, image_id):
        if image_id in self.broken:
            raise UserError(f"image {image_id}.jpg is cut off: fetch it again")
        return super().image(image_id)


def opened(kind, source, **options):
    made = {"files": TopDownDataset, "memory": CropsInMemory}[kind]
    return made(source, size=SIZE, **options)


@pytest.mark.parametrize("kind", ["files", "memory"])
def test_the_next_person_of_the_order_stands_in_with_its_own_labels_and_crop(kind):
    whole, holed = opened(kind, DotSource(6)), opened(kind, Holed(6, {3, 4}), passes_over=True)
    batch = holed.__getitems__([(0, 1), (0, 2), (5, 3), (0, 5)])
    assert batch.index.tolist() == [1, 4, 4, 5]  # positions count from 0, ids from 1
    wanted = whole.__getitems__([(0, 1), (0, 4), (5, 4), (0, 5)])
    for name in ("image", "keypoints", "weight", "to_image"):
        np.testing.assert_array_equal(getattr(batch, name).numpy(), getattr(wanted, name).numpy())
    assert set(holed.unreadable) == {2, 3}


def test_who_shows_no_labels_is_replaced_by_somebody_who_shows_none():
    labels = Labels(persons=np.arange(6), shown=np.array([True, False, True, True, False, True]))
    holed = opened("files", Holed(6, {2}), passes_over=True, labels=labels)
    assert holed.__getitems__([(0, 1)]).index.tolist() == [4]
    last = opened("files", Holed(6, {6}), passes_over=True, labels=labels)
    assert last.__getitems__([(0, 5)]).index.tolist() == [0]  # after the last comes the first


@pytest.mark.parametrize("kind", ["files", "memory"])
def test_nobody_stands_in_who_was_left_out_of_the_training(kind):
    drawn = np.array([True, True, False, False, True, True])
    labels = Labels(persons=np.arange(6), shown=np.zeros(6, dtype=bool), drawn=drawn)
    holed = opened(kind, Holed(6, {2, 5}), passes_over=True, labels=labels)
    assert holed.__getitems__([(0, 1), (0, 4), (0, 5)]).index.tolist() == [5, 5, 5]


@pytest.mark.parametrize("kind", ["files", "memory"])
def test_nobody_is_replaced_where_people_are_measured(kind):
    with pytest.raises(UserError, match=r"^image 3.jpg is cut off: fetch it again$") as refused:
        opened(kind, Holed(6, {3})).__getitems__([(0, 2)])
    assert type(refused.value) is UserError  # which a process that cuts crops can hand over


def test_a_source_of_nothing_but_broken_pictures_ends_in_a_message():
    with pytest.raises(UserError, match=r"no picture to train on can be read; image 1.jpg is cut off"):
        opened("files", Holed(3, {1, 2, 3}), passes_over=True).__getitems__([(0, 0)])


def test_crops_on_disk_remember_whose_pictures_were_broken(tmp_path):
    for _ in range(2):  # the second time they are only looked up
        holed = opened("memory", Holed(6, {3}), passes_over=True, config=CropsConfig(folder=tmp_path))
        assert holed.unreadable == {2: "image 3.jpg is cut off: fetch it again"}
        assert holed.__getitems__([(0, 2)]).index.tolist() == [3]


def run(count, broken, folder, **changes):
    sources = Sources(Holed(count, broken), DotSource(8))
    return fit(small_run(**changes), folder, sources=sources, quiet=True)


def test_a_run_goes_on_and_counts_and_names_what_it_passed_over(tmp_path):
    run(200, {7, 9}, tmp_path / "run", train={"epochs": 1, "batch_size": 8, "log_every": 5})
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    told = {row["unreadable"] for row in rows if "unreadable" in row}
    assert told == {f"image {number}.jpg is cut off: fetch it again" for number in (7, 9)}


def test_a_run_is_the_same_whatever_process_cuts_the_crops(tmp_path):
    batches = [[(0, index) for index in range(at, at + 4)] for at in range(0, 12, 4)]
    holed = opened("files", Holed(12, {2, 3, 12}), passes_over=True)
    for workers in (0, 1):
        indices = [batch.index.tolist() for batch in batch_loader(holed, batches, workers=workers)]
        assert indices == [[0, 3, 3, 3], [4, 5, 6, 7], [8, 9, 10, 0]]


@pytest.mark.parametrize("crops", [None, {}])
def test_more_than_one_in_a_hundred_ends_the_run_with_their_number_and_the_first(tmp_path, crops):
    changes = {"data": {"train": {"name": "synthetic", "people": 8}, "val": {"name": "synthetic", "people": 8},
                        "augment": {"half_body": 0}, "crops": crops}}  # fmt: skip
    with pytest.raises(UserError, match=r"^3 of the 200 pictures cannot be read, more than 1 %: .*; the first: image "):
        run(200, {7, 8, 9}, tmp_path / "run", train={"epochs": 1, "batch_size": 8}, **changes)


def test_two_people_of_one_picture_are_one_picture_and_each_is_told_once(capsys):
    source = Holed(300, {5})
    source.people[1] = source.people[4]  # two of picture 5, and none of picture 2
    dataset = opened("files", source, passes_over=True)
    passed = PassedOver(dataset, RunLog(None))
    for step in range(3):
        wanted = [(step, 1), (step, 4), (step, 6)]
        passed.look(step, wanted, dataset.__getitems__(wanted))
    assert (list(passed.found), passed.pictures) == ([5], 299)
    assert capsys.readouterr().err.count("image 5.jpg is cut off") == 1


def test_one_in_a_hundred_is_not_too_many():
    refuse_many({1: "broken"}, 100)
    with pytest.raises(UserError, match="1 of the 99 pictures"):
        refuse_many({1: "broken"}, 99)


def test_crops_on_disk_are_cut_anew_once_a_picture_can_be_read(tmp_path):
    def kept(source):
        return opened("memory", source, passes_over=True, config=CropsConfig(folder=tmp_path))

    assert set(kept(Holed(6, {3})).unreadable) == {2}
    for _ in range(2):  # the second time from what the first wrote
        mended = kept(Holed(6, set()))
        assert not mended.unreadable
        assert mended.__getitems__([(0, 2)]).image.amax() > 0
