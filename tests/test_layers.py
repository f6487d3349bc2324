"""The rooms of the house, in order: a file imports only from its own room and from those before it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "posestill"
ROOMS = (
    "schema", "types", "files", "cluster", "documents", "keypoints", "skeletons", "geometry", "draw",
    "metrics", "codecs", "data", "doctor", "models", "teachers", "methods", "catalog",
    "evaluation", "deploy", "engine", "predict", "html", "study", "cli", "__main__",
)  # fmt: skip
"""From the ground up; docs/architecture.md says what each is for."""
FILES = sorted(ROOT.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imported(path: Path, *, anywhere: bool = True) -> set[str]:
    """The modules below `posestill` that a file imports: anywhere in it, or only when it is imported itself."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if anywhere else iter(tree.body)
    found = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "posestill":
            name = node.module.removeprefix("posestill").lstrip(".")
            for each in node.names:
                below = ROOT.joinpath(*name.split("."), f"{each.name}.py") if name else ROOT / f"{each.name}.py"
                found.add(f"{name}.{each.name}".strip(".") if below.is_file() else name)
        elif isinstance(node, ast.Import):
            found |= {each.name.removeprefix("posestill.") for each in node.names if each.name.startswith("posestill.")}
    return {name for name in found if name}


@pytest.mark.parametrize("path", FILES, ids=module)
def test_a_file_imports_only_from_its_own_room_and_from_those_below(path):
    own = room(path)
    if own == "__init__":  # its public names are looked up when they are first used
        return
    assert own in ROOMS, f"give {own} a place among the rooms"
    for name in imported(path):
        target = name.split(".")[0]
        assert ROOMS.index(target) <= ROOMS.index(own), f"{module(path)} imports {name}"


def test_no_two_files_import_one_another_not_even_by_a_detour():
    graph = {module(path): imported(path, anywhere=False) for path in FILES}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for other in sorted(graph.get(name, ())):
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_at_the_top_stand_only_files_that_everything_speaks():
    assert len(list(ROOT.glob("*.py"))) <= 9


@pytest.mark.parametrize("path", FILES, ids=module)
def test_no_file_is_longer_than_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400


def test_the_loop_knows_no_method():
    assert {name for name in imported(ROOT / "engine" / "fit.py") if name.startswith("methods.")} <= {"methods.base"}


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*/__init__.py")), ids=lambda path: path.parent.name)
def test_sub_packages_are_empty(path):
    assert len(path.read_text().splitlines()) <= 1


@pytest.mark.parametrize("path", [each for each in FILES if room(each) != "codecs"], ids=module)
def test_nobody_asks_a_codec_for_its_class_or_its_settings(path):
    """What they need is the codec's form or a method of it, so that a new codec is its file and one line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
            asked = ast.unparse(node.args[1])
            assert "Codec" not in asked, f"line {node.lineno}: isinstance(..., {asked})"
            assert asked not in ("HeatmapConfig", "CoordsConfig", "RleConfig", "SimccConfig"), f"line {node.lineno}"
        if isinstance(node, ast.Attribute) and node.attr == "config":
            assert not ast.unparse(node.value).endswith("codec"), f"line {node.lineno}: {ast.unparse(node)}"
