"""What the tests of the deploy room share: a small model of each kind."""

from __future__ import annotations

import pytest

from posestill.deploy.runtimes import TARGETS
from posestill.deploy.write import Writer
from posestill.models.pose_model import PoseModel
from tests.conftest import small_model

KINDS: dict[str, dict[str, object]] = {
    "heatmap": {},
    "coords": {},
    "rle": {"codec": "rle", "head": "gap_fc"},
    "simcc": {"head": "simcc", "codec": "simcc"},
    "token": {
        "head": {"name": "token", "patch": [4, 3], "dim": 16, "depth": 2, "heads": 4},
        "codec": {"name": "coords", "bounded": True, "score": True, "scale": True},
    },
    "agent": {"neck": {"name": "agent", "agent": {"channels": 8}}},
}
"""every kind of model, as changes to the smallest one"""


def a_model(kind: str, seed: int = 0) -> PoseModel:
    return small_model("coords" if kind == "coords" else "heatmap", seed=seed, **KINDS[kind]).eval()


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A small heatmap model as a torch.export file, and the model; for reading only."""
    model = a_model("heatmap")
    return Writer(model, tmp_path_factory.mktemp("exported")).write(TARGETS["pt2"], "fp32"), model
