import pytest
import yaml

from posestill.engine.config import RunConfig, dump_run, find_recipe, load_plugin, load_run, recipe_names
from posestill.schema import UserError, validate


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_complete_short_and_survives_its_own_dump(name):
    text = find_recipe(name).read_text()
    assert 8 <= sum(not line.startswith("#") for line in text.splitlines()) <= 25
    assert text.startswith("# "), "the first line says what it is for"
    run = load_run(name)
    assert validate(RunConfig, yaml.safe_load(dump_run(run)), where="dump") == run


def test_set_reaches_any_depth_and_speaks_yaml():
    run = load_run("quickstart", ["train.steps=7", "model.codec.bounded=false", "teacher.cache=true",
                                  "train.optimiser.learning_rate=1e-3", "data.augment={flip: 0}"])  # fmt: skip
    assert run.train.steps == 7
    assert run.model.codec.bounded is False
    assert run.teacher.kept is not None  # `teacher: bundled-tokens` became a mapping
    assert run.train.optimiser.learning_rate == 1e-3
    assert run.data.augment.rotation == 80  # replaced whole: the others are at their defaults


@pytest.mark.parametrize("cache", ["true", "false"])
def test_set_reaches_into_what_a_recipe_only_switches_on_or_off(cache):
    run = load_run("quickstart", ["method=pseudo_label", f"teacher.cache={cache}", "teacher.cache.keep=maps"])
    assert run.teacher.kept.keep == "maps"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.stpes=3", r"train\.stpes: no such key; did you mean 'steps'"),
        ("model.backbone.chanels=[1]", r"model\.backbone\.chanels: no such key; did you mean 'channels'"),
        ("data.train.profile=esay", r"data\.train\.profile: .*easy"),
        ("method=tdc", "no 'tdc' among the methods; did you mean 'tcd'"),
        ("train.steps", "write it as a.b=c"),
        ("seed.x=1", "'seed' is a plain value"),
        ("train.steps=[", "is not valid YAML"),
        ("train.log_every=0", r"train\.log_every: .*greater than"),
        ("data.augment.scale=1.5", r"data\.augment\.scale: .*less than 1"),
        ("data.augment.flip=7", r"data\.augment\.flip: .*less than or equal to 1"),
        ("model.backbone.channels=[]", r"model\.backbone\.channels: .*at least 1 item"),
        ("train.ema=1.5", r"train\.ema: .*less than 1"),
        ("teacher={name: runs/a, path: runs/b}", "leave out 'path'"),
        ("train.epochs=3", "give the length of the run once"),
    ],
)
def test_a_mistaken_change_is_answered_with_the_key_and_the_remedy(change, message):
    with pytest.raises(UserError, match=message):
        load_run("quickstart", ["seed=0", change] if change == "seed.x=1" else [change])


def test_a_fault_is_the_changes_where_the_recipe_alone_has_none(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(dump_run(load_run("sample")))
    with pytest.raises(UserError, match=r"mine.yaml, changed by train.stepz=5, seed=3: train.stepz: no such key"):
        load_run(str(recipe), ["train.stepz=5", "seed=3"])
    recipe.write_text(recipe.read_text() + "wrong: 1\n")
    with pytest.raises(UserError, match=r"mine.yaml: wrong: no such key"):
        load_run(str(recipe), ["train.stepz=5"])
    recipe.write_text("method: supervised\n")
    with pytest.raises(UserError, match=r"mine.yaml: data: Field required"):
        load_run(str(recipe), ["train.steps=5"])


def test_recipes_are_found_by_name_path_and_run_folder(tmp_path):
    (tmp_path / "config.yaml").write_text(dump_run(load_run("quickstart")))
    assert load_run(str(tmp_path)) == load_run("quickstart") == load_run(str(tmp_path / "config.yaml"))


def test_what_is_no_recipe_is_explained(tmp_path):
    with pytest.raises(UserError, match="no recipe 'quikstart'; did you mean 'quickstart'"):
        load_run("quikstart")
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(UserError, match=r"a\.yaml is not valid YAML"):
        load_run(str(tmp_path / "a.yaml"))
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="no text in UTF-8"):
        load_run(str(tmp_path / "a.yaml"))
    (tmp_path / "a.yaml").write_text("- 1")
    with pytest.raises(UserError, match="is not a recipe"):
        load_run(str(tmp_path / "a.yaml"))


def test_a_plugin_adds_an_entry_without_touching_the_package(tmp_path):
    from posestill import catalog

    path = tmp_path / "my_method.py"
    path.write_text(
        "from posestill.catalog import METHODS\n"
        "from posestill.methods.supervised import Supervised, SupervisedConfig\n"
        "class MineConfig(SupervisedConfig):\n"
        "    '''My own.'''\n"
        "    strength: float = 1.0\n"
        "METHODS['mine'] = MineConfig\n"
    )
    load_plugin(path)
    try:
        assert load_run("coco-sample", ["method={name: mine, strength: 2}"]).method.strength == 2
    finally:
        catalog.METHODS.pop("mine")
    path.write_text("def broken(:")
    with pytest.raises(UserError, match="SyntaxError"):
        load_plugin(path)
    with pytest.raises(UserError, match="--plugin: no Python file"):
        load_plugin(tmp_path / "gone.py")
