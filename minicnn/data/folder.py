"""A user's own images in the layout of torchvision's ImageFolder: one sub-folder a class."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from minicnn.data.base import HeldOut
from minicnn.data.image_list import SPLITS, Listing, Sample
from minicnn.data.picture import EXTENSIONS
from minicnn.errors import DataError

#: What macOS, Windows or a NAS has put there.
SYSTEM = ("__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information")


def list_folder(path: Path, warn: Callable[[str], None] = lambda _: None) -> Listing:
    """All image files below `path`, by torchvision's rules: by their extensions, at any depth, in sorted order.

    The classes are the sub-folders of `path`, or those of `path`/train where beside train there is nothing but test or
    val, or another of their usual names in any case (training, valid, validation, testing); these hold the same
    classes. Of both, val is taken, and test is left for later. Hidden files and folders, and those of systems, are
    passed over. In a class, a folder that links lead to again counts once. `warn` is told of what is perhaps not meant.

    Raises DataError: no such folder, fewer than two classes, a class without images, other classes, classes beside the
    folders of a split, a split without train or under other names.
    """
    train, test = _splits(path)
    classes = _classes(train)
    _warn_of_doubts(train, classes, warn)
    if test is None:
        return Listing(classes, {"train": _samples(train, classes)})
    others = _classes(test)
    if others != classes:
        [name, *_] = sorted(set(classes) ^ set(others))
        has, lacks = (train, test) if name in classes else (test, train)
        raise DataError(f"{test}: expected the classes of {train}, received others: {name} is in {has}, not in {lacks}")
    held_out: HeldOut = "validation" if SPLITS[test.name.lower()] == "val" else "test"
    return Listing(classes, {"train": _samples(train, classes), "test": _samples(test, classes)}, held_out)


def image_files(top: Path) -> list[Path]:
    """The image files below a folder, in sorted order."""
    found, seen = [], set()
    for folder, subfolders, files in os.walk(top, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link leads back: walked on, its images would count dozens of times
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(filter(_visible, subfolders))
        found += [(folder, file) for file in files if _is_image(file)]
    return [Path(folder, file) for folder, file in sorted(found)]


def _splits(path: Path) -> tuple[Path, Path | None]:
    """The folders of the training and of the held-out classes. Raises DataError for splits by half."""
    names = _subfolders(path)
    splits = {name: SPLITS[name.lower()] for name in names if name.lower() in SPLITS}
    others = [name for name in names if name not in splits]
    divided = {name: _subfolders(path / name) for name in splits}
    if (others or len(splits) < 2) and all(len(classes) < 2 for classes in divided.values()):
        _check_other_names(path, names)
        return path, None  # a class may be called train, too
    problem = None
    roles = list(splits.values())
    if others:
        problem = (
            f"received classes in {', '.join(splits)} and {', '.join(others[:5])} beside them; move or rename some"
        )
    elif not all(divided.values()):
        problem = f"received none in {next(name for name in splits if not divided[name])}"
    elif "train" not in roles:
        problem = f"received {', '.join(splits)} without train"
    elif len(set(roles)) < len(roles):
        problem = f"received two of one kind among {', '.join(splits)}"
    if problem:
        raise DataError(
            f"{path}: expected a sub-folder for each class, or train and test (or val) with such "
            f"sub-folders in each, {problem}"
        )
    by_role = {role: path / name for name, role in splits.items()}
    return by_role["train"], by_role.get("val") or by_role.get("test")


def _check_other_names(path: Path, names: Sequence[str]) -> None:
    """Raises DataError for a split under names such as training_set and test_set, which would count as classes."""
    roles = {}
    for name in names:
        found = [SPLITS[word] for word in re.findall("[a-z]+", name.lower()) if word in SPLITS]
        if found:
            roles[name] = found[0]
    if len(set(roles.values())) > 1 and "train" in roles.values():
        renamed = ", ".join(f"{name} to {role}" for name, role in roles.items())
        raise DataError(
            f"{path}: expected a sub-folder for each class, received what looks like a split, {', '.join(roles)}; "
            f"rename {renamed}"
        )


def _warn_of_doubts(path: Path, classes: Sequence[str], warn: Callable[[str], None]) -> None:
    """Tells of images that are in no class, and of classes that look like the parts of a data set."""
    loose = _loose_images(path)
    if loose:
        warn(f"{path}: {loose:,} image(s) beside the folders of the classes, in none of them, are left out")
    inside = {tuple(_subfolders(path / name)) for name in classes}
    if len(inside) == 1 and len(min(inside)) > 1:
        warn(
            f"{path}: {', '.join(classes[:5])} count as classes, though all have the same sub-folders, "
            f"{', '.join(min(inside)[:5])}; the parts of a data set are called train, val and test"
        )


def _visible(name: str) -> bool:
    """Whether a file or folder is the user's: not hidden, and not the system's."""
    return not name.startswith(".") and name not in SYSTEM


def _is_image(name: str) -> bool:
    return _visible(name) and name.lower().endswith(EXTENSIONS)


def _loose_images(path: Path) -> int:
    with os.scandir(path) as entries:
        return sum(_is_image(entry.name) and entry.is_file() for entry in entries)


def _subfolders(path: Path) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and _visible(entry.name))
    except OSError as error:
        raise DataError(
            f"{path}: expected a folder with one sub-folder of images per class, received {error.strerror}"
        ) from None


def _classes(path: Path) -> tuple[str, ...]:
    names = _subfolders(path)
    if len(names) < 2:
        received, hint = f"one ({names[0]})" if names else "none", ""
        loose = _loose_images(path)
        if names and len(_subfolders(path / names[0])) > 1:
            hint = f"; should data.path be {path / names[0]}?"
        elif loose:
            received += f", and {loose:,} image(s) beside"
            hint = "; with their classes in a table, data.name=csv reads them"
        raise DataError(f"{path}: expected two or more sub-folders, one for each class, received {received}{hint}")
    return tuple(names)


def _samples(path: Path, classes: Sequence[str]) -> list[Sample]:
    samples = []
    for label, name in enumerate(classes):
        files = image_files(path / name)
        if not files:
            raise DataError(f"{path / name}: expected at least one image ({' '.join(EXTENSIONS)}), received none")
        samples += [(file, label) for file in files]
    return samples
