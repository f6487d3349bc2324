import numpy as np
import pytest

from posestill.cluster.shards import Shard
from posestill.data.topdown import Labels
from posestill.schema import UserError
from posestill.teachers.base import CacheConfig, ModelTeacher
from posestill.teachers.cache import CachedTeacher
from posestill.teachers.shared_store import StoreOfShard, put_together
from posestill.teachers.store import CHUNK
from tests.conftest import DotSource, small_model
from tests.teachers.test_cache import AUGMENT, SIZE
from tests.teachers.test_store import PERSONS, Killed, answers, contents, fill, in_folder


def learn():
    return {"first": 7}


def fill_shard(whole, shard, *, stop_after=None, asked=None):
    own = StoreOfShard(whole, shard)
    with own.turn(learn, print):
        for done, number in enumerate(own.missing):
            if done == stop_after:
                raise Killed
            if asked is not None:
                asked.append(own.persons_of(number))
            own.add(number, answers(own.persons_of(number)))
    return own


def test_shards_have_every_chunk_once(tmp_path):
    whole = in_folder(tmp_path)  # four chunks, the last one of five persons
    parts = [StoreOfShard(whole, shard) for shard in Shard(1, 3).all]
    assert [list(part.numbers) for part in parts] == [[0, 3], [1], [2]]
    assert [part.persons for part in parts] == [CHUNK + 5, CHUNK, CHUNK]
    assert parts[0].persons_of(1) == range(3 * CHUNK, PERSONS)


@pytest.mark.parametrize("count", [1, 3, 6])
def test_what_shards_were_told_makes_the_very_cache_of_one_process(tmp_path, count):
    fill(in_folder(tmp_path / "one"))
    whole = in_folder(tmp_path / "shared")
    for shard in Shard(1, count).all:
        if StoreOfShard(whole, shard).chunks:
            fill_shard(whole, shard)
    assert put_together(whole, Shard(1, count), learn, print) == []
    assert contents(tmp_path / "shared") == contents(tmp_path / "one")
    assert in_folder(tmp_path / "shared").found() == {"first": 7}
    assert not (tmp_path / "shared" / "shards").exists()


def test_until_all_are_there_nothing_is_put_together_and_the_missing_ones_are_named(tmp_path):
    whole = in_folder(tmp_path)
    fill_shard(whole, Shard(2, 4))
    assert put_together(whole, Shard(2, 4), learn, print) == [1, 3, 4]
    assert whole.found() is None


def test_a_killed_shard_goes_on_with_the_chunk_that_it_was_at(tmp_path):
    whole, asked = in_folder(tmp_path), []
    with pytest.raises(Killed):
        fill_shard(whole, Shard(1, 2), stop_after=1)
    fill_shard(whole, Shard(1, 2), asked=asked)
    assert asked == [range(2 * CHUNK, 3 * CHUNK)]


def test_whoever_comes_when_all_is_put_together_finds_it_done(tmp_path):
    whole = in_folder(tmp_path)
    for shard in Shard(1, 2).all:
        fill_shard(whole, shard)
    put_together(whole, Shard(1, 2), learn, print)
    assert put_together(in_folder(tmp_path), Shard(2, 2), learn, print) == []


def test_a_shard_of_another_teacher_is_refused(tmp_path):
    fill_shard(in_folder(tmp_path), Shard(1, 2))
    other = in_folder(tmp_path, teacher={"sha256": "other"})
    with pytest.raises(UserError, match=r"1-of-2 was made for something else \(teacher\.sha256: one there, other here"):
        fill_shard(other, Shard(1, 2))


def test_a_teacher_that_shards_ask_says_what_it_says_to_one(tmp_path):
    teacher, source = ModelTeacher(small_model()), DotSource(2 * CHUNK + 2)
    everyone = Labels(np.arange(len(source.people)), np.ones(len(source.people), dtype=bool))

    def opened(name):
        asked = CachedTeacher(teacher, size=SIZE, config=CacheConfig(folder=tmp_path / name))
        return asked, asked.crops_to_ask_about(teacher, source, everyone, AUGMENT)

    one, crops = opened("one")
    one.ask(teacher, crops)
    shared, crops = opened("shared")
    assert shared.ask_share(teacher, crops, Shard(1, 2)) == [2]
    assert shared.ask_share(teacher, crops, Shard(2, 2)) == []
    assert contents(tmp_path / "shared") == contents(tmp_path / "one")
    said = []
    assert shared.ask_share(teacher, crops, Shard(2, 2), say=said.append) == []
    assert said == [f"{tmp_path / 'shared'} has the teacher's answers about all 130 persons: it is not asked"]
