import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posestill.documents.parse import MOST_NODES, parse_json, parse_yaml, read_json, read_yaml
from posestill.schema import UserError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("abc: -#'\"\n", max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4),
    max_leaves=12,
)


@given(value=PLAIN)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_yaml_writes_is_read_back(value):
    assert parse_yaml(yaml.safe_dump(value)) == value


@given(text=st.text("ab:-[]{}&*!#'\"|> \n\t0189.%@", max_size=60))
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_text_is_read_or_refused_by_a_value_error(text):
    for parse in (parse_json, parse_yaml):
        try:
            parse(text)
        except ValueError as error:
            assert str(error)


def test_an_alias_may_be_used_and_must_not_multiply_without_bound():
    assert parse_yaml("a: &x [1, 2]\nb: *x") == {"a": [1, 2], "b": [1, 2]}
    assert parse_yaml("a: &x {k: 1}\nb: {<<: *x, m: 2}") == {"a": {"k": 1}, "b": {"k": 1, "m": 2}}
    many = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcd", "bcde", strict=True)
    )
    with pytest.raises(ValueError, match="its aliases make"):
        parse_yaml(many)
    long = "a: [" + "1, " * MOST_NODES + "1]"  # as long as it is without any alias
    assert len(parse_yaml(long)["a"]) == MOST_NODES + 1


def test_files_are_named(tmp_path):
    for read, form in ((read_json, "JSON"), (read_yaml, "YAML")):
        with pytest.raises(UserError, match=f"no list {tmp_path}/x: correct the path"):
            read(tmp_path / "x", what="list")
        with pytest.raises(UserError, match="is a folder; a list is wanted"):
            read(tmp_path, what="list")
        (tmp_path / "bad").write_text("[")
        with pytest.raises(UserError, match=f"list {tmp_path}/bad is not valid {form}"):
            read(tmp_path / "bad", what="list")
        with pytest.raises(UserError, match="cannot be read: File name too long"):
            read(tmp_path / ("x" * 5000), what="list")
        with pytest.raises(UserError, match="cannot be opened"):
            read(tmp_path / "a\0b", what="list")
