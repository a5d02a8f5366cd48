"""One line of text declares a multi-modal task; one shared encoder-decoder learns all the tasks at once.

The names below are imported when they are first used, so that `import ofasys_lite` costs nothing and needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ofasys_lite.version import __version__

if TYPE_CHECKING:
    from ofasys_lite.api.evaluation import evaluate
    from ofasys_lite.api.model import GeneralistModel
    from ofasys_lite.api.ofasys import OFASys
    from ofasys_lite.api.task import Task
    from ofasys_lite.api.training import Trainer, fit
    from ofasys_lite.errors import OfasysError
    from ofasys_lite.generalist.prediction import Prediction
    from ofasys_lite.model.config import ModelConfig

__all__ = [
    "GeneralistModel",
    "ModelConfig",
    "OFASys",
    "OfasysError",
    "Prediction",
    "Task",
    "Trainer",
    "__version__",
    "evaluate",
    "fit",
]

_WHERE = {
    "GeneralistModel": "api.model",
    "ModelConfig": "model.config",
    "OFASys": "api.ofasys",
    "OfasysError": "errors",
    "Prediction": "generalist.prediction",
    "Task": "api.task",
    "Trainer": "api.training",
    "evaluate": "api.evaluation",
    "fit": "api.training",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        from ofasys_lite.errors import nearest

        near = nearest(name, _WHERE)
        hint = f". Did you mean `{near}`?" if near is not None and not name.startswith("_") else ""
        raise AttributeError(f"module `ofasys_lite` has no attribute `{name}`{hint}")
    found = getattr(import_module(f"ofasys_lite.{_WHERE[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
