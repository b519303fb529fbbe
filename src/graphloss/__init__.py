"""graphloss: fine-tune text encoders with a loss that sees a graph of documents.

Three ways in: `GLoss` for any PyTorch loop, `TextClassifier` with the manners of scikit-learn, and the command
`graphloss`. Names are loaded when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphloss.classifier import TextClassifier
    from graphloss.errors import InputError
    from graphloss.inference.suggestion import suggest
    from graphloss.losses.memory_bank import Memory
    from graphloss.losses.modules import Combined, GLoss

__version__ = "0.1.0"
__all__ = ["Combined", "GLoss", "InputError", "Memory", "TextClassifier", "__version__", "suggest"]

_HOME = {
    "Combined": "losses.modules",
    "GLoss": "losses.modules",
    "InputError": "errors",
    "Memory": "losses.memory_bank",
    "TextClassifier": "classifier",
    "suggest": "inference.suggestion",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'graphloss' has no attribute '{name}'")
    return getattr(import_module(f"graphloss.{_HOME[name]}"), name)
