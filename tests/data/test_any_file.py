"""Whatever stands in a user's file, the answer is a source or one line that says what is wrong."""

import json
from copy import deepcopy

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posestill.cli.main import one_line
from posestill.data.coco import CocoSource
from posestill.engine.config import load_run
from posestill.evaluation.results import score_results
from posestill.schema import UserError
from tests.cli.bad_inputs import contents

STRANGE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.just(10**30) | st.just(-1),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def places(value, path=()):
    """Every place within nested lists and mappings."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*path, key))


def changed(name, data):
    """A file's content with one to three places of it changed or taken out."""
    whole = deepcopy(contents()[name])
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from([each for each in places(whole) if each]))
        place = whole
        for step in path[:-1]:
            place = place[step]
        if data.draw(st.booleans()):
            place[path[-1]] = data.draw(STRANGE)
        else:
            del place[path[-1]]
        if not whole:
            break
    return whole


def in_one_line(work):
    """Do some work that may raise nothing but a `UserError`, whose message is one line."""
    try:
        work()
    except UserError as error:
        assert len(one_line(str(error)).splitlines()) == 1
        assert len(str(error)) < 3000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("any")


@given(data=st.data())
@QUICK
def test_any_annotation_file_is_read_or_explained(folder, data):
    (folder / "gt.json").write_text(json.dumps(changed("gt.json", data)))
    in_one_line(lambda: CocoSource(folder / "gt.json", images=None))


@given(data=st.data())
@QUICK
def test_any_results_file_is_scored_or_explained(folder, data):
    (folder / "sound.json").write_text(json.dumps(contents()["gt.json"]))
    (folder / "r.json").write_text(json.dumps(changed("results.json", data)))
    in_one_line(lambda: score_results(folder / "sound.json", folder / "r.json"))


@given(data=st.data())
@QUICK
def test_any_metainfo_is_read_or_explained(folder, data):
    (folder / "sound.json").write_text(json.dumps(contents()["gt.json"]))
    (folder / "info.json").write_text(json.dumps(changed("info.json", data)))
    in_one_line(lambda: CocoSource(folder / "sound.json", images=None, metainfo=folder / "info.json"))


@given(data=st.data())
@QUICK
def test_any_recipe_is_read_or_explained(folder, data):
    whole = changed("recipe.yaml", data)
    (folder / "r.yaml").write_text(yaml.safe_dump(whole, allow_unicode=True))
    in_one_line(lambda: load_run(str(folder / "r.yaml")))
