from dataclasses import replace

import numpy as np
import pytest

from posestill.data.batches import (
    BatchPlan,
    DataConfig,
    JoinedBatches,
    PlannedBatches,
    choose_people,
    in_order,
    pictures_of,
)
from posestill.data.topdown import Labels
from posestill.engine.config import load_run
from posestill.schema import UserError
from posestill.types import Person
from tests.conftest import DotSource


def data(**changes) -> DataConfig:
    return load_run("quickstart").data.model_copy(
        update={"people": None, "labelled": None, "labelled_per_batch": None, **changes}
    )


def labels(shown: int, hidden: int) -> Labels:
    return Labels(np.arange(shown + hidden), np.arange(shown + hidden) < shown)


def test_an_epoch_shows_each_person_once_and_every_epoch_in_another_order():
    plan = BatchPlan(labels(10, 0), batch_size=4, labelled_per_batch=None, seed=0)
    pairs = [pair for step in range(5) for pair in plan.batch(step)]
    assert [epoch for epoch, _ in pairs] == [0] * 10 + [1] * 10
    assert sorted(index for _, index in pairs[:10]) == list(range(10))
    assert [index for _, index in pairs[:10]] != [index for _, index in pairs[10:]]


def test_a_batch_is_a_pure_function_of_seed_and_step():
    one, other = (BatchPlan(labels(50, 50), batch_size=8, labelled_per_batch=2, seed=5) for _ in range(2))
    late = other.batch(40)
    assert [one.batch(step) for step in range(41)][40] == late
    assert BatchPlan(labels(50, 50), batch_size=8, labelled_per_batch=2, seed=6).batch(40) != late


def test_each_batch_has_the_wanted_number_of_labelled_persons():
    plan = BatchPlan(labels(10, 90), batch_size=8, labelled_per_batch=3, seed=0)
    for step in range(20):
        assert sum(index < 10 for _, index in plan.batch(step)) == 3
    assert plan.steps_per_epoch() == pytest.approx(10 / 3)


def test_the_order_of_labelled_persons_does_not_depend_on_the_unlabelled_ones():
    many = BatchPlan(labels(10, 90), batch_size=8, labelled_per_batch=4, seed=0)
    alone = BatchPlan(labels(10, 0), batch_size=4, labelled_per_batch=None, seed=0)
    for step in range(10):
        assert many.batch(step)[:4] == alone.batch(step)


def test_who_is_not_drawn_is_in_no_batch_and_the_epoch_is_shorter():
    drawn = np.arange(100) % 4 > 0
    unlabelled, few = replace(labels(0, 100), drawn=drawn), replace(labels(10, 90), drawn=drawn)
    plan = BatchPlan(unlabelled, batch_size=25, labelled_per_batch=None, seed=0)
    assert plan.steps_per_epoch() == 3
    assert sorted(index for step in range(3) for _, index in plan.batch(step)) == np.flatnonzero(drawn).tolist()
    mixed = BatchPlan(few, batch_size=8, labelled_per_batch=3, seed=0)
    shares = [[index for _, index in mixed.batch(step)] for step in range(30)]
    assert all(sum(index < 10 for index in each) == 3 for each in shares)
    assert {index for each in shares for index in each} <= set(np.flatnonzero(drawn).tolist())


def test_processes_share_a_batch_without_overlap():
    plan = BatchPlan(labels(20, 20), batch_size=8, labelled_per_batch=4, seed=0)
    shares = [plan.batch(3, rank=rank, world=2) for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == sorted(plan.batch(3))
    assert all(sum(index < 20 for _, index in share) == 2 for share in shares)


def test_a_resumed_sampler_goes_on_where_the_other_stopped():
    plan = BatchPlan(labels(20, 0), batch_size=3, labelled_per_batch=None, seed=0)
    whole = list(PlannedBatches(plan, start=0, stop=9, rank=0, world=1))
    rest = PlannedBatches(plan, start=4, stop=9, rank=0, world=1)
    assert list(rest) == whole[4:]
    assert len(rest) == 5


def test_a_smaller_choice_is_a_prefix_of_a_larger_one():
    source = DotSource(30)
    many, few = choose_people(source, data(people=20, labelled=5)), choose_people(source, data(people=8, labelled=5))
    assert many.persons[:8].tolist() == few.persons.tolist()
    assert many.shown.sum() == few.shown.sum() == 5
    assert many.persons[many.shown].tolist() == few.persons[few.shown].tolist()


def test_people_without_labels_come_in_only_when_asked_for():
    source = DotSource(10, unlabelled=4)
    assert len(choose_people(source, data()).persons) == 6
    everyone = choose_people(source, data(unlabelled_people=True))
    assert (len(everyone.persons), everyone.shown.sum()) == (10, 6)


def test_crowds_and_empty_boxes_are_never_trained_on():
    source = DotSource(4)
    first = source.people[0]
    source.people[0] = Person(first.id, first.image_id, first.bbox, first.keypoints, first.area, crowd=True)
    second = source.people[1]
    source.people[1] = Person(second.id, second.image_id, np.array([1.0, 1, 0, 5]), second.keypoints, second.area)
    assert sorted(choose_people(source, data()).persons.tolist()) == [2, 3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"people": 99}, "data.people: 99 persons wanted, the training source has 10"),
     ({"labelled": 11}, "data.labelled: 11 wanted, 10 of the persons")],
)  # fmt: skip
def test_more_than_there_are_is_refused_with_both_numbers(changes, message):
    with pytest.raises(UserError, match=message):
        choose_people(DotSource(10), data(**changes))


@pytest.mark.parametrize(("shown", "hidden", "share"), [(10, 0, 4), (0, 10, 4), (10, 10, 9)])
def test_a_batch_that_cannot_be_filled_is_refused(shown, hidden, share):
    with pytest.raises(UserError, match=f"{share} of a batch of 8 cannot be drawn from {shown} labelled"):
        BatchPlan(labels(shown, hidden), batch_size=8, labelled_per_batch=share, seed=0)


def test_evaluation_reads_in_order_and_keeps_the_last_short_batch():
    assert in_order([3, 4, 5, 6, 7], 2) == [[(0, 3), (0, 4)], [(0, 5), (0, 6)], [(0, 7)]]


PICTURES = np.repeat(np.arange(40), 3)  # 120 persons, three a picture


def by_image(*, batch_size=12, buffer=48, hidden=0, **more) -> BatchPlan:
    shown = labels(120 - hidden, hidden)
    given = {"labelled_per_batch": None, "seed": 0, **more}
    return BatchPlan(shown, batch_size=batch_size, pictures=PICTURES, buffer=buffer, **given)


def persons(pairs) -> list[int]:
    return sorted(index for _, index in pairs)


def test_by_image_shows_everybody_once_an_epoch_and_pictures_in_another_order_each_time():
    plan = by_image()
    first, second = ([pair for step in steps for pair in plan.batch(step)] for steps in (range(10), range(10, 20)))
    assert persons(first) == persons(second) == list(range(120))
    assert {epoch for epoch, _ in first} == {0}
    assert {epoch for epoch, _ in second} == {1}
    assert [index for _, index in first] != [index for _, index in second]


def test_by_image_keeps_the_persons_of_a_picture_within_one_buffer_and_spreads_them_over_its_steps():
    plan = by_image()
    assert plan.steps_together == 4
    together = [{PICTURES[index] for step in range(at, at + 4) for _, index in plan.batch(step)} for at in (0, 4)]
    assert [len(each) for each in together] == [16, 16]  # 48 persons of 16 whole pictures
    assert not together[0] & together[1]
    assert (
        len({PICTURES[index] for _, index in plan.batch(0)}) > 4
    )  # four pictures would fill a batch without shuffling


def test_by_image_is_a_pure_function_of_seed_and_step():
    late = by_image().batch(13)
    again = by_image()
    assert [again.batch(step) for step in range(14)][13] == late
    assert by_image(seed=1).batch(13) != late


@pytest.mark.parametrize("world", [2, 3, 4])
def test_by_image_gives_each_of_several_processes_its_rows_of_the_one_batch(world):
    plan = by_image(hidden=60, labelled_per_batch=5)
    for step in range(8):
        whole = plan.batch(step)
        assert [plan.batch(step, rank=rank, world=world) for rank in range(world)] == [
            whole[rank::world] for rank in range(world)
        ]


def test_by_image_leaves_most_pictures_to_one_process_each():
    plan = by_image(batch_size=24, buffer=96)
    both = [
        {PICTURES[index] for step in range(4) for _, index in plan.batch(step, rank=rank, world=2)} for rank in (0, 1)
    ]
    assert len(both[0] | both[1]) == 32
    assert len(both[0] & both[1]) < 16  # drawn at random it would be some 24


def test_by_image_counts_labelled_persons_as_the_published_order_does():
    plan = by_image(hidden=60, labelled_per_batch=5)
    assert all(sum(index < 60 for _, index in plan.batch(step)) == 5 for step in range(20))


def test_joined_batches_are_the_planned_ones_and_end_where_a_buffer_ends():
    plan = by_image()
    planned = PlannedBatches(plan, start=3, stop=13, rank=0, world=1)
    joined = JoinedBatches(planned)
    assert [list(part) for part in joined.parts()] == [[3], [4, 5, 6, 7], [8, 9, 10, 11], [12]]
    assert len(joined) == 4
    assert [pair for part in joined for pair in part] == [pair for batch in planned for pair in batch]
    plain = PlannedBatches(
        BatchPlan(labels(20, 0), batch_size=3, labelled_per_batch=None, seed=0), start=4, stop=9, rank=0, world=1
    )
    assert list(JoinedBatches(plain)) == list(plain)
    ended = JoinedBatches(PlannedBatches(plan, start=13, stop=13, rank=0, world=1))  # a run resumed when it had ended
    assert (list(ended), len(ended)) == ([], 0)


def test_pictures_of_persons_follow_the_order_in_which_a_run_sees_them():
    source = DotSource(6)
    chosen = Labels(np.array([4, 1]), np.array([True, True]))
    assert pictures_of(source, chosen).tolist() == [source.people[4].image_id, source.people[1].image_id]
