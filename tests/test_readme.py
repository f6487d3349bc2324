"""The README's commands run as they stand; the figures of all pages are those of results/, and links lead somewhere."""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def fenced(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


def commands() -> list[str]:
    lines = [line.split("  #")[0].strip() for block in fenced("bash") for line in block.splitlines()]
    return [line for line in lines if line.startswith("posestill")]


def filler():
    """The script that fills figures into the pages."""
    spec = importlib.util.spec_from_file_location("readme", ROOT / "benchmarks" / "readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_figure_in_a_sentence_is_written_anew_between_its_marks():
    before = "On <!--= value evaluator images ,.0f -->0<!--/--> pictures, by <!--= command evaluator --><!--/-->."
    after = filler().written(before)
    assert after == (
        "On <!--= value evaluator images ,.0f -->5,000<!--/--> pictures, by <!--= command evaluator -->"
        "`python benchmarks/evaluator.py --json results/evaluator.json`<!--/-->."
    )
    assert filler().written(after) == after


def test_a_mark_that_names_no_figure_is_refused_with_those_that_there_are():
    with pytest.raises(SystemExit, match="no figure gian; there are value, command, ratio, gain"):
        filler().figure("gian protocol labels-400 ocd alone")


def test_every_mark_of_a_page_is_closed_and_every_table_has_its_end():
    module = filler()
    tables = {table.__name__.replace("_", "-") for table in module.TABLES}
    for page in module.PAGES:
        text = (ROOT / page).read_text()
        assert text.count("<!--= ") == text.count("<!--/-->"), page
        begun, ended = (re.findall(rf"^<!-- ([\w-]+):{where}", text, flags=re.M) for where in ("begin", "end"))
        assert begun == ended, page
        assert set(begun) <= tables, page


@pytest.mark.slow
def test_the_figures_are_those_of_the_results():
    module = filler()
    for page in module.PAGES:
        text = (ROOT / page).read_text()
        assert module.written(text) == text, f"{page}: run python benchmarks/readme.py"
    assert module.FINDING.read_text() == module.finding(), "run python benchmarks/readme.py"


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "results" / "README.md"]
)
def test_links_lead_to_files_that_exist(path):
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


def test_every_result_is_listed_with_its_command():
    listed = (ROOT / "results" / "README.md").read_text()
    for path in (ROOT / "results").glob("*.json"):
        assert f"`{path.name}`" in listed
    for folder in (path for path in (ROOT / "results").iterdir() if path.is_dir()):
        assert f"`{folder.name}/`" in listed


def test_the_example_method_of_the_docs_can_be_plugged_in(tmp_path):
    from posestill import catalog
    from posestill.engine.config import load_plugin, load_run

    (tmp_path / "my_method.py").write_text(fenced("python", (ROOT / "docs" / "own-method.md").read_text())[0])
    load_plugin(tmp_path / "my_method.py")
    try:
        assert type(load_run("coco-sample", ["method=mine"]).method).__name__ == "MineConfig"
    finally:
        catalog.METHODS.pop("mine")


def test_the_yaml_of_the_docs_names_real_settings():
    import yaml

    from posestill.data.batches import DataConfig
    from posestill.engine.config import TrainConfig
    from posestill.models.pose_model import ModelConfig

    for page in ("data.md", "training.md"):
        for block in fenced("yaml", (ROOT / "docs" / page).read_text()):
            for key, content in yaml.safe_load(block).items():
                {"data": DataConfig, "model": ModelConfig}[key].model_validate(content)
    for name in re.findall(r"`train\.(\w+)", (ROOT / "docs" / "training.md").read_text()):
        assert name in TrainConfig.model_fields


def test_no_command_and_no_program_of_the_readme_needs_data_that_a_clone_lacks():
    """They name data/sample, which `data sample` writes, and no folder beside the checkout."""
    assert "posestill data sample data/sample" in commands()
    for text in (*commands(), *fenced("python")):
        assert "../" not in text


@pytest.mark.slow
def test_the_commands_and_the_python_of_the_readme_run_as_they_stand(tmp_path):
    pytest.importorskip("onnxscript")
    assert len(commands()) == 5
    for command in commands():
        words = shlex.split(command, comments=True)
        done = subprocess.run(
            [sys.executable, "-m", "posestill", *words[1:]], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    program = fenced("python")[0] + "print(poses.shape, poses[0, :, 2].mean() > 0.5)\n"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(1, 17, 3) True"
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 20
    assert {path.name for path in (tmp_path / "exported").iterdir()} >= {"model-fp32.onnx", "model-fp32.pt2"}
    figures = json.loads((tmp_path / "runs" / "mine" / "eval.json").read_text())
    assert figures["conditions"]["persons"] == 46
    assert figures["AP"] > 0.5  # of people that it never saw
