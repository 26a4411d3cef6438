"""A small convolutional-network framework whose backprop is written out, layer by layer."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minicnn.api import *  # noqa: F403

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Modules and public names are imported when first used: a command starts at once."""
    if not name.startswith("_") and find_spec(f"minicnn.{name}"):
        return import_module(f"minicnn.{name}")
    api = import_module("minicnn.api")
    globals().update({key: getattr(api, key) for key in api.__all__}, __all__=api.__all__)
    if name in globals():
        return globals()[name]
    raise AttributeError(f"module 'minicnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__getattr__("__all__")]
