"""What the exercise scripts share; and ``train`` and ``load``, for Python and notebooks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from common.api import TrainedRun, load, train
    from common.errors import UserError

__all__ = ["TrainedRun", "UserError", "load", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module("common.errors" if name == "UserError" else "common.api"), name)
