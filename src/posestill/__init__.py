"""posestill turns a strong human-pose estimator and your images into a small one that ships."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = ["Predictor", "load"]

if TYPE_CHECKING:
    from posestill.predict.predictor import Predictor, load

_LAZY = {"Predictor": "posestill.predict.predictor", "load": "posestill.predict.predictor"}


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used: `import posestill` stays light."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'posestill' has no attribute '{name}'")
