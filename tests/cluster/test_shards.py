import pytest

from posestill.cluster.shards import MOST_LOTS, WHOLE, Shard, lots, read_shard
from posestill.schema import UserError


def test_the_shards_of_a_list_have_every_item_once():
    shards = Shard(1, 3).all
    assert [list(each.of("abcdefg")) for each in shards] == [["a", "d", "g"], ["b", "e"], ["c", "f"]]
    assert [each.number for position in range(7) for each in shards if each.has(position)] == [1, 2, 3, 1, 2, 3, 1]
    assert list(WHOLE.of("abc")) == ["a", "b", "c"]


def test_more_shards_than_items_leave_some_without_any():
    assert list(Shard(4, 5).of("abc")) == []


def test_shards_are_told_by_their_numbers():
    assert Shard(2, 4).named([3]) == "shard 3/4"
    assert Shard(2, 4).named([4, 1, 1, 3]) == "shards 1/4, 3/4 and 4/4"
    assert Shard(2, 4).file_name == "2-of-4"


def test_a_shard_is_read_from_text():
    assert read_shard("2/4") == Shard(2, 4)
    assert read_shard(" 1/1 ") == WHOLE


@pytest.mark.parametrize("text", ["", "2", "2/", "/4", "2/4/6", "a/b", "-1/4", "1.5/2", "2 of 4", "1/9999999"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(UserError, match=r"--shard .*: write it as I/N, such as 2/4 for the second of four"):
        read_shard(text)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0"])
def test_a_shard_that_is_not_among_them_is_refused_with_what_an_array_wants(text):
    with pytest.raises(UserError, match=r"--shard ./.: of . shards the first is 1/. and the last ./. \(for an array"):
        read_shard(text)


def test_lots_are_of_about_one_size_and_not_too_many():
    assert lots(0, of=500) == 1
    assert lots(500, of=500) == 1
    assert lots(501, of=500) == 2
    assert lots(10**6, of=500) == MOST_LOTS
