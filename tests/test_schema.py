import subprocess
import sys
from typing import Annotated

import pytest

from posestill.engine.config import RunConfig, load_run
from posestill.models.heads import HeadConfig
from posestill.schema import Choice, Config, UserError, validate


class Inner(Config):
    sigma: float = 2.0


class Outer(Config):
    inner: Inner = Inner()
    head: Annotated[HeadConfig, Choice("heads")]


def test_a_misspelt_key_at_depth_is_named_with_its_path_and_a_suggestion():
    with pytest.raises(UserError, match=r"inner\.sigmma: no such key; did you mean 'sigma'\?"):
        validate(Outer, {"inner": {"sigmma": 3}, "head": "deconv"}, where="x.yaml")


def test_a_misspelt_key_inside_a_choice_is_named_with_its_path():
    with pytest.raises(UserError, match=r"head\.chanels: no such key; did you mean 'channels'\?"):
        validate(Outer, {"head": {"name": "deconv", "chanels": [1]}}, where="x.yaml")


def test_an_unlike_key_shows_the_known_ones():
    with pytest.raises(UserError, match="no such key; known keys: sigma"):
        validate(Outer, {"inner": {"qqq": 3}, "head": "deconv"}, where="x.yaml")


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="no 'decov' among the heads; did you mean 'deconv'"):
        validate(Outer, {"head": "decov"}, where="x.yaml")


def test_a_choice_without_a_name_says_what_to_write():
    with pytest.raises(UserError, match="head: give a name, or a mapping with a key 'name'"):
        validate(Outer, {"head": {"channels": [1]}}, where="x.yaml")


def test_a_wrong_type_shows_what_was_given():
    with pytest.raises(UserError, match=r"inner\.sigma: .*number.*\(given: 'wide'\)"):
        validate(Outer, {"inner": {"sigma": "wide"}, "head": "deconv"}, where="x.yaml")


def test_every_choice_dumps_its_name_and_loads_back():
    for name in ("deconv", "gap_fc", "flat_fc", "conv_maps"):
        outer = validate(Outer, {"head": name}, where="x.yaml")
        dumped = outer.model_dump(mode="json")
        assert dumped["head"]["name"] == name
        assert validate(Outer, dumped, where="x.yaml") == outer


def test_a_setting_of_another_table_is_refused():
    with pytest.raises(UserError, match="Inner is not one of the heads"):
        validate(Outer, {"head": Inner()}, where="x.yaml")


def test_a_backbone_outside_the_table_is_a_timm_name_and_survives_the_round_trip():
    run = load_run("coco-sample", ["model.backbone={name: resnet50, pretrained: true}"])
    dumped = run.model_dump(mode="json")
    assert dumped["model"]["backbone"] == {"name": "resnet50", "pretrained": True, "weights": None, "stride": None}
    assert validate(RunConfig, dumped, where="x") == run


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Inner().sigma = 3.0


def test_whoever_reads_the_tables_first_fills_them():
    code = (
        "import sys; from posestill.models.pose_model import ModelConfig\n"
        "assert 'posestill.catalog' not in sys.modules\n"
        "print(ModelConfig(backbone='small_resnet', head='deconv', codec='heatmap').head.channels)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "(256, 256, 256)"), done.stderr
