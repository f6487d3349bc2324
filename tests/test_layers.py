"""A file imports only from lower layers: the table of DESIGN section 2, enforced."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "posestill"
LAYERS = {
    "__init__": 0, "schema": 0, "types": 0, "files": 0, "skeletons": 0,
    "geometry": 1, "draw": 1, "metrics": 1,
    "codecs": 2, "data": 2,
    "models": 3,
    "teachers": 4,
    "methods": 5,
    "catalog": 6,
    "config": 7,
    "engine": 8,
    "predict": 9, "convert": 9, "bench": 9, "page": 9, "charts": 9, "report": 9, "quickstart": 9, "listing": 9,
    "plan": 9, "compare": 9, "comparison": 9, "control": 9, "comparison_page": 9,
    "cli": 10,
}  # fmt: skip
SETTINGS_OF_THE_LOOP = {"config": {"engine.optim", "engine.evaluate"}}
"""config.py holds the loop's own settings, typed beside the code that uses them."""
FILES = sorted(ROOT.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("posestill"):
            found.add(node.module.removeprefix("posestill").lstrip("."))
            if node.module == "posestill":
                found |= {name.name for name in node.names}
        elif isinstance(node, ast.Import):
            found |= {name.name.removeprefix("posestill.") for name in node.names if name.name.startswith("posestill.")}
    return {name for name in found if name}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_from_its_own_room_and_lower_layers(path):
    own = room(path)
    assert own in LAYERS, f"give {own} a layer"
    if own == "__init__":  # its public names resolve lazily
        return
    for name in imported(path):
        target = name.split(".")[0]
        if target == own or name in SETTINGS_OF_THE_LOOP.get(own, set()):
            continue
        same = LAYERS[own] == LAYERS[target]
        assert LAYERS[target] < LAYERS[own] or (same and LAYERS[own] in (0, 1, 2, 9)), f"{own} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_longer_than_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400


def test_the_loop_knows_no_method():
    assert not {
        name for name in imported(ROOT / "engine" / "fit.py") if name.startswith("methods.") and "base" not in name
    }


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*/__init__.py")), ids=lambda path: path.parent.name)
def test_sub_packages_are_empty(path):
    assert len(path.read_text().splitlines()) <= 1
