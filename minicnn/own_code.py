"""Layers, losses, optimizers and callbacks of a user's own, which settings and model files name as my_module:PReLU.

To use such a name is to run the code of its module, my_module.py beside the file that has the name. So it is imported
only where the user has asked for it: by training (or looking at) a configuration that names it, with --trust-code, or
with `load(path, trust_code=True)`. A run's folder gets a copy of the module. A model file holds names and options, and
no code.
"""

import importlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any, NamedTuple

from minicnn.checks import told, words
from minicnn.console import tell
from minicnn.errors import ConfigError, MinicnnError

_NAME = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")


class _Loaded(NamedTuple):
    """A module that was imported, and all files that its import took from the folder."""

    module: ModuleType
    folder: Path
    files: dict[str, bytes]


_loaded: dict[str, _Loaded] = {}
_trusted = False


@contextmanager
def trusted() -> Iterator[None]:
    """A block in which the user trusts the code of all runs and model files that are read."""
    global _trusted
    before, _trusted = _trusted, True
    try:
        yield
    finally:
        _trusted = before


def is_own(name: Any) -> bool:
    """Whether a name is that of a class of the user's own."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def names_in(tree: Any) -> list[str]:
    """Such names in groups of settings, as in a file."""
    found: list[Any] = []
    networks = [_part(tree, "network"), *_values(_part(tree, "networks"))]
    for network in networks:
        found += _names(_part(network, "layers"))
    found += _names(_part(_part(tree, "training"), "callbacks"))
    found += [_part(_part(tree, group), "name") for group in ("loss", "optimizer")]
    return list(dict.fromkeys(filter(is_own, found)))


def _part(tree: Any, key: str) -> Any:
    return tree.get(key) if isinstance(tree, Mapping) else None


def _values(tree: Any) -> list[Any]:
    return list(tree.values()) if isinstance(tree, Mapping) else []


def _names(items: Any) -> Iterator[str]:
    for item in items if isinstance(items, list) else ():
        if isinstance(item, str):
            yield item
        for name, options in item.items() if isinstance(item, Mapping) else ():
            yield name
            for option in _values(options):
                yield from _names([option] if isinstance(option, Mapping) else option)


def load_from(folder: Path, names: Iterable[str], source: object, asked_for: bool = False) -> None:
    """Imports the modules of the names, which `source` has, from `folder` or as installed ones.

    Raises MinicnnError, and runs nothing, unless the user has asked for it or code of the same content has been loaded
    before; ConfigError for a module that cannot be imported.
    """
    for name in names:
        module = name.partition(":")[0]
        path = folder.joinpath(*module.split("."))
        file = next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file()), None)
        known = _loaded.get(module)
        if known and (file is None or _has(folder, known)):
            continue
        if not (asked_for or _trusted):
            raise MinicnnError(
                f"{source}: {name} is code of {file or f'the module {module}'}, which runs only if you trust it: "
                "minicnn ... --trust-code, or load(path, trust_code=True) in Python"
            )
        if module.partition(".")[0] in sys.stdlib_module_names:
            raise ConfigError(f"{name}: expected a module of your own, received the name of one of Python's")
        if file or find_spec(module.partition(".")[0]):  # else nothing runs, and the import says what is missing
            tell(f"running the code of {file or f'the installed module {module}'}, as {source} names {name}")
        _loaded[module] = _imported(name, folder)


def _has(folder: Path, loaded: _Loaded) -> bool:
    """Whether a folder has all files of a module as they were loaded, also those that it imports."""
    files = loaded.files.items()
    return bool(files) and all(
        (folder / path).is_file() and (folder / path).read_bytes() == content for path, content in files
    )


def _imported(name: str, folder: Path) -> _Loaded:
    module, folder = name.partition(":")[0], folder.resolve()
    for earlier in _loaded.values():  # from another folder, with helpers that may have the same names, too
        for file in earlier.files:
            sys.modules.pop(file.removesuffix(".py").removesuffix("/__init__").replace("/", "."), None)
    before, writes = set(sys.modules), sys.dont_write_bytecode
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        wanted = f"{folder / module.replace('.', '/')}.py" if error.name == module else f"the module {error.name}"
        raise ConfigError(f"{name}: expected {wanted}, there is none") from None
    except Exception as error:
        line = _last_line(error, lambda path: path.is_relative_to(folder))
        reason = f"{type(error).__name__}: {error}" + (f" ({line})" if line else "")
        raise ConfigError(f"{name}: its module cannot be imported: {reason}") from error
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = writes
    files = {}
    for one in {*set(sys.modules) - before, module}:
        place = getattr(sys.modules[one], "__file__", None)
        path = Path(place or "/").resolve()
        if path.is_file() and path.is_relative_to(folder):
            files[path.relative_to(folder).as_posix()] = path.read_bytes()
    return _Loaded(found, folder, files)


def any_loaded() -> bool:
    """Whether any has been loaded."""
    return bool(_loaded)


def place_of(error: BaseException) -> str:
    """The last line of the user's own code that an error came through, as "my_module.py, line 3", or ""."""
    own = {one.folder / file for one in _loaded.values() for file in one.files}
    return _last_line(error, own.__contains__)


def _last_line(error: BaseException, counts: Callable[[Path], bool]) -> str:
    """The last line in a file that counts."""
    frames = [frame for frame in extract_tb(error.__traceback__) if counts(Path(frame.filename))]
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""


def find(name: str, kind: type, place: str) -> Any:
    """The class of that name, once it has been loaded. Raises ConfigError for what is no `kind`."""
    module, _, attribute = name.partition(":")
    if module not in _loaded:
        raise ConfigError(f"{place}: {name} is code of your own, and has to be named in a file, beside which it lies")
    found = getattr(_loaded[module].module, attribute, None)
    if found is None:
        raise ConfigError(f"{place}: {name}: expected a class of {module}, which has no {attribute}")
    if not (isinstance(found, type) and issubclass(found, kind)):
        received = f"the class {attribute}" if isinstance(found, type) else told(found)
        raise ConfigError(
            f"{place}: {name}: expected a class derived from {words(kind)[2:].strip()}, received {received}"
        )
    return found


def name_of(kind: type) -> str:
    """What files call a class: my_module:PReLU if it has been loaded by that name, else its own name."""
    loaded = _loaded.get(kind.__module__)
    known = loaded is not None and getattr(loaded.module, kind.__name__, None) is kind
    return f"{kind.__module__}:{kind.__name__}" if known else kind.__name__


def files_of(tree: Any) -> dict[str, bytes]:
    """Copies, by path, of the files that the names in `tree` were loaded from."""
    return {path: content for name in names_in(tree) for path, content in _loaded[name.partition(":")[0]].files.items()}
