"""Every claim of docs/claims.md names code, a test and a result that are there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "claims.md"
UNMEASURED = ("published only: needs COCO", "by construction")


def claims():
    """The cells (claim, code, test, result) of each row of the page's tables."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and not line.startswith("| claim")]
    return [tuple(cell.strip() for cell in re.split(r" \| ", line.strip("| "))) for line in lines]


def links(cell):
    """The path and the title of each link in a cell."""
    return re.findall(r'\]\(([^ )]+)(?: "(\w+)")?\)', cell)


@cache
def functions_of(path):
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_there_are_claims_of_each_paper():
    papers = PAGE.read_text().split("\n## ")[1:]
    assert [paper.split(" (")[0] for paper in papers] == ["DistilPose", "OCD and TCD", "AgentPose"]
    assert all(len(re.findall(r"^\| [A-Z]", paper, flags=re.M)) >= 6 for paper in papers)


@pytest.mark.parametrize("row", claims(), ids=lambda row: row[0][:40])
def test_a_claim_names_code_a_test_and_a_result_that_are_there(row):
    _, code, test, result = row
    assert links(code)
    assert all((PAGE.parent / path).is_file() for path, _ in (*links(code), *links(test), *links(result)))
    assert all(path.startswith("../results/") for path, _ in links(result))
    assert links(result) or result.startswith(UNMEASURED)
    ((path, name),) = links(test)
    assert name in functions_of((PAGE.parent / path).resolve())
