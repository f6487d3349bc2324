"""A small plan that several tests ask their questions of, and rows as its runs would leave them."""

from __future__ import annotations

from typing import Any

from posestill.schema import validate
from posestill.study.jobs import Asked, Resolver
from posestill.study.plan import Plan


def small_plan(**changes: Any) -> Plan:
    """Two regimes, four arms; `changes` take the place of its keys."""
    content = {
        "regimes": {
            "few": {"recipe": "protocol/synthetic", "set": ["data.labelled=100"], "test": ["data.val.seed=9"]},
            "many": {"recipe": "protocol/synthetic", "tuned_in": "few", "arms": ["alone", "longer", "tcd"]},
        },
        "arms": {
            "tcd": {"title": "TCD"},
            "longer": {"title": "longer", "control": "alone", "length": 2, "tuned_as": "alone"},
        },
        "learning_rates": [1e-3, 4e-3],
        "seeds": {"choose": [7], "confirm": [1, 2, 3]},
        "confirm": {"few": ["alone", "tcd"]},
        **changes,
    }
    return validate(Plan, content, where="test")


def small_row(asked: Asked, plan: Plan | None = None, **changes: Any) -> dict[str, Any]:
    """The row of a run that was never trained; `changes` take the place of its fields."""
    job = Resolver(plan or small_plan()).job(asked)
    return {
        "split": asked.split, "regime": asked.regime, "arm": asked.arm, "learning_rate": asked.learning_rate,
        "seed": asked.seed, "metrics": {"mean_oks": 0.5, "AP": 0.1}, "per_keypoint": {"nose": {"PCK": 0.5}},
        "similarity": "5000 6000", "training_seconds": 10.0, "seconds": 12.0, "settings": job.settings,
        "method_version": job.version, "surroundings": {"processor": "a CPU", "torch": "2.9"}, **changes,
    }  # fmt: skip
