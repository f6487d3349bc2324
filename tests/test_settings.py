"""Every setting says in whole sentences what it is: the string below each field of a Config."""

import ast
import inspect
from functools import cache

import pytest

from posestill import catalog
from posestill.data.augment import AugmentConfig
from posestill.data.batches import DataConfig
from posestill.data.crops import CropsConfig
from posestill.engine.config import RunConfig, TrainConfig
from posestill.engine.optim import OptimiserConfig
from posestill.evaluation.evaluate import EvaluateConfig
from posestill.methods.distilpose import Weights
from posestill.models.agent import AgentConfig
from posestill.models.pose_model import ModelConfig
from posestill.schema import Config
from posestill.skeletons import Skeleton
from posestill.study.plan import Arm, Plan, PreparedRun, Regime, Seeds
from posestill.teachers.base import CacheConfig
from posestill.teachers.layouts import BinsOutput, LayoutConfig, MapsOutput, NumbersOutput

TABLES = (
    catalog.CODECS,
    catalog.SOURCES,
    catalog.BACKBONES,
    catalog.NECKS,
    catalog.HEADS,
    catalog.TEACHERS,
    catalog.METHODS,
)
LISTED = [entry for table in TABLES for entry in table.values()]
FURTHER = [
    RunConfig, TrainConfig, DataConfig, EvaluateConfig, OptimiserConfig, AugmentConfig, CropsConfig, ModelConfig,
    AgentConfig, CacheConfig, Weights, Plan, Regime, Arm, PreparedRun, Seeds, Skeleton, LayoutConfig,
    MapsOutput, BinsOutput, NumbersOutput,
]  # fmt: skip


def family(entry):
    """The Config classes that an entry has its settings from, itself first."""
    return [each for each in entry.__mro__ if issubclass(each, Config) and each is not Config]


CONFIGS = list(dict.fromkeys(each for entry in (*LISTED, *FURTHER) for each in family(entry)))


@cache
def bodies(file):
    """What stands in each class of a file, by the class's name."""
    with open(file, encoding="utf-8") as source:
        tree = ast.parse(source.read())
    return {node.name: node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def told(config):
    """The settings that stand in a class's own body: (name, the docstring below it or None)."""
    body = bodies(inspect.getfile(config))[config.__name__]
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if not isinstance(statement, ast.AnnAssign) or statement.target.id not in config.model_fields:
            continue  # a method, or a ClassVar, which is no setting
        text = None
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            text = following.value.value
        yield statement.target.id, text


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_every_setting_says_what_it_is_in_whole_sentences(config):
    above = {name for parent in family(config)[1:] for name in parent.model_fields}
    for name, text in told(config):
        if text is None and name in above:
            continue  # another default for what an ancestor explains
        assert isinstance(text, str), f"{config.__name__}.{name} has no docstring"
        assert text[0].isupper() or text[0].isdigit(), f"{config.__name__}.{name}: {text}"
        assert text.endswith("."), f"{config.__name__}.{name}: {text}"


def test_the_settings_that_a_reader_meets_first_are_among_them():
    assert dict(told(catalog.CODECS["heatmap"]))["sigma"].startswith("The spread of a keypoint's Gaussian in map px;")
    assert {name for name, _ in told(TrainConfig)} == TrainConfig.model_fields.keys()
    assert len(CONFIGS) > 50
