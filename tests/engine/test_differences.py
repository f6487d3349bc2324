import pytest

from posestill.engine.differences import first_difference


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ({"a": {"b": 0.2}}, {"a": {"b": 0.3}}, "a.b was 0.2 and is now 0.3"),
        ({"a": {"b": 1}, "c": 1}, {"c": 2, "a": {"b": 2}}, "c was 1 and is now 2"),  # in today's order
        ({"a": {"b": 1}}, {"a": {"b": 1, "new": None}}, "a.new was not there and is now null"),
        ({}, {"of": [{"new": 3}]}, 'of was not there and is now [{"new": 3}]'),
        ({"a": {"b": 1, "old": "x"}}, {"a": {"b": 1}}, 'a.old was "x" and is now not there'),
        ({"teacher": None}, {"teacher": {"name": "bundled"}}, 'teacher was null and is now {"name": "bundled"}'),
        ({"of": [{"w": 1}, {"w": 2}]}, {"of": [{"w": 1}, {"w": 3}]}, "of.1.w was 2 and is now 3"),
        ({"size": [64, 48]}, {"size": [64]}, "size was [64, 48] and is now [64]"),
        ({"a": 1, "b": {"c": [1, {"d": 2.0}]}}, {"b": {"c": [1, {"d": 2}]}, "a": 1}, None),
        ({"a": "x" * 200}, {"a": 1}, f'a was "{"x" * 76}... and is now 1'),
    ],
)
def test_the_first_difference_is_named_by_its_path_and_both_values(was, now, said):
    assert first_difference(was, now, chosen=now) == said


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"name": "tcd"}, None),
        ({"name": "tcd", "new": {"b": 2}}, 'new was not there and is now {"a": 1, "b": 2}'),
        ({"name": "tcd", "of": [{"late": 1}]}, "of.0.late was not there and is now 1"),
    ],
)
def test_a_setting_that_the_row_is_older_than_counts_where_it_is_not_its_default(chosen, said):
    was = {"name": "tcd", "of": [{"name": "pkd"}]}
    now = {"name": "tcd", "new": {"a": 1, "b": 2}, "of": [{"name": "pkd", "late": 1}]}
    assert first_difference(was, now, chosen) == said
