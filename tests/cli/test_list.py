import pytest

from posestill import catalog
from posestill.cli.listing import KINDS, first_sentence, recipe_texts
from posestill.engine.config import load_run, recipe_names
from posestill.methods.supervised import SupervisedConfig
from posestill.schema import table
from posestill.teachers.checkpoint import CheckpointConfig
from posestill.teachers.file import ABOUT_LAYOUTS


def names_of(kind):
    """What there is of a kind, by the tables themselves."""
    return {"recipes": recipe_names, "layouts": lambda: ABOUT_LAYOUTS}.get(kind, lambda: table(kind))()


def entries(out):
    """The lines of a kind by the name that each begins with; two spaces or more stand behind it."""
    return dict(line.split("  ", 1) for line in out.splitlines())


def test_the_overview_names_everything_there_is_on_one_screen(posestill):
    status, out, _ = posestill("list")
    assert status == 0
    lines = out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100
    assert lines[2].startswith("methods    supervised, pseudo_label, ocd, tcd, ")
    words = {word.strip(",") for line in lines for word in line.split()}
    for kind in KINDS.keys() - {"recipes"}:
        assert set(names_of(kind)) - {"timm", "checkpoint"} <= words
    assert {name for name in recipe_names() if "/" not in name} <= words
    assert f"{sum(name.startswith('coco/') for name in recipe_names())} in coco/" in out
    assert "any timm network" in out
    assert "`posestill list methods`" in out


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_one_line_an_entry_with_a_whole_sentence_that_fits(posestill, kind):
    status, out, _ = posestill("list", kind)
    assert status == 0
    told = entries(out)
    assert len(told) == len(out.splitlines()) == len(names_of(kind))
    for sentence in told.values():
        assert sentence.strip() != "."
        assert sentence.endswith("."), sentence
        assert not sentence.endswith("..")
    assert max(map(len, out.splitlines())) <= 120


def test_a_method_is_listed_with_its_source_its_status_and_what_it_asks_of_a_teacher(posestill):
    told = {name: text.strip() for name, text in entries(posestill("list", "methods")[1]).items()}
    assert list(told) == list(catalog.METHODS)
    assert told["ocd"] == "OCD, ECCV Workshops 2024; reconstructed from the abstract; needs no teacher."
    assert told["pkd"] == "PKD, NeurIPS 2022, for comparison; needs a teacher's features."
    assert told["diffkd"] == "DiffKD, NeurIPS 2023, after its code; needs a teacher's features."
    assert told["agentpose"] == "AgentPose, ICASSP 2025; reconstructed; needs a teacher's features."
    assert told["tcd"].endswith("needs a teacher's prediction.")
    assert told["several"].endswith("its settings decide what it needs of a teacher.")
    assert "equal" in told["distilpose"]
    assert told["distilpose"].endswith("needs a token teacher.")


def test_a_recipe_is_listed_with_what_must_be_there_before_it_runs(posestill):
    told = entries(posestill("list", "recipes")[1])
    assert list(told) == recipe_names() == list(recipe_texts())
    assert told["quickstart"].endswith("; needs nothing.")
    assert told["protocol/gpu"].endswith("; needs runs/gpu-data, a teacher.")
    assert told["lsp-photos"].endswith("; needs ../shared/lsp-photos.")
    assert told["coco/student-resnet50-tcd"].endswith("; needs data/coco, timm's weights, a teacher.")
    for name, text in told.items():
        run = load_run(name)
        assert ("a teacher" in text.partition("; needs")[2]) == isinstance(run.teacher, CheckpointConfig), name
        weights = getattr(run.model.backbone, "pretrained", False)
        assert ("timm's weights" in text) == weights, name


def test_a_kind_that_there_is_not_is_refused_with_the_right_one(posestill):
    status, _, err = posestill("list", "recipe")
    assert (status, "did you mean 'recipes'?" in err) == (2, True)
    assert "(known: methods, codecs, backbones, necks, heads, teachers, layouts, sources, recipes)" in err


def test_an_entry_of_a_plugin_is_listed_by_what_it_says_of_itself(posestill, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from posestill.catalog import METHODS\n"
        "from posestill.methods.base import Distiller, MethodConfig\n"
        "from posestill.methods.supervised import SupervisedConfig\n"
        "class Mine(Distiller):\n    needs = frozenset({'prediction', 'features'})\n    origin = 'mine, of today'\n"
        "class MineConfig(MethodConfig):\n    '''Mine.'''\n    distiller = Mine\n"
        "class QuietConfig(SupervisedConfig):\n    '''The same\n    in two lines. And more.'''\n"
        "METHODS.update(mine=MineConfig, quiet=QuietConfig)\n"
    )
    try:
        told = entries(posestill("list", "methods", "--plugin", plugin)[1])
        assert told["mine"].strip() == "Mine, of today; needs a teacher's features and prediction."
        assert told["quiet"].strip().endswith("needs no teacher.")
        assert "simcc_logits" in told
        assert "mine, quiet" in " ".join(posestill("list")[1].split())
    finally:
        catalog.METHODS.pop("mine", None)
        catalog.METHODS.pop("quiet", None)


def test_the_first_sentence_is_found_across_lines_and_not_at_a_full_stop_within_a_name():
    class Split(SupervisedConfig):
        """A data.yaml that
        says so (v1.0). And more.

        Much more.
        """

    class Endless(SupervisedConfig):
        """No full stop"""

    assert first_sentence(Split) == "A data.yaml that says so (v1.0)."
    assert first_sentence(Endless) == "No full stop"
