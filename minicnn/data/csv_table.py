"""A user's own images, named in a CSV file with their classes."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from minicnn.data.image_list import SPLITS, Listing, Sample
from minicnn.errors import DataError
from minicnn.files import read_bytes

IMAGE_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path")
LABEL_COLUMNS = ("label", "class", "class_name", "category", "target")
SPLIT_COLUMNS = ("split", "subset", "partition")
MOST_BYTES = 1024**3


def list_csv(
    path: Path, image_column: str | None = None, label_column: str | None = None, split_column: str | None = None
) -> Listing:
    """The images that the CSV file `path` names, relative to its folder, with their classes.

    Its first row has the names of the columns. image_column, label_column, split_column: which of them to take; None
    stands for one with a usual name, such as path and label. Without a column of splits, all images are for training;
    else it says train, val or test of each (or another usual name of these), as the sub-folders of a folder do.
    Columns are parted by commas, semicolons or tabs. The classes are in the order of their names; if these are all
    whole numbers, in that of the numbers.

    Raises DataError: no such file or column, a row that is too short, an empty cell, an unknown split, fewer than two
    classes, a class without training images.
    """
    head, rows = _table(path)
    image = _column(path, head, "image", image_column, IMAGE_COLUMNS)
    label = _column(path, head, "label", label_column, LABEL_COLUMNS)
    divided = split_column is not None or any(name.lower() in SPLIT_COLUMNS for name in head)
    split = _column(path, head, "split", split_column, SPLIT_COLUMNS) if divided else None
    for number, row in rows:
        for column in (image, label, *([] if split is None else [split])):
            if column >= len(row) or not row[column]:
                raise DataError(f"{path}, line {number}: expected something in column {head[column]}, received nothing")
    classes = _sorted({row[label] for _, row in rows})
    if len(classes) < 2:
        raise DataError(f"{path}, column {head[label]}: expected two or more classes, received {len(classes)}")
    labels = {name: place for place, name in enumerate(classes)}
    parts: dict[str, list[Sample]] = {}
    for number, row in rows:
        role = "train" if split is None else SPLITS.get(row[split].lower())
        if role is None:
            raise DataError(
                f"{path}, line {number}: expected train, val or test in column {head[split or 0]}, "
                f"received {row[split or 0]!r}"
            )
        file = path.parent / os.path.expanduser(row[image])
        parts.setdefault(role, []).append((file, labels[row[label]]))
    samples = {"train": parts.get("train", [])}
    lacking = set(labels.values()) - {number for _, number in samples["train"]}
    if lacking:
        raise DataError(f"{path}: expected training images of every class, received none of {classes[min(lacking)]}")
    role = next((role for role in ("val", "test") if role in parts), None)
    if role:
        samples["test"] = parts[role]
    return Listing(classes, samples, "test" if role == "test" else "validation")


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names of the columns, and the rows with their numbers of lines; those that are empty are left out."""
    try:
        text = read_bytes(path, MOST_BYTES).decode("utf-8-sig")
        first = text.partition("\n")[0]
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
        stripped = ((reader.line_num, [cell.strip() for cell in row]) for row in reader)
        lines = [(number, row) for number, row in stripped if any(row)]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected a CSV file in UTF-8, received other bytes: {error}") from None
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: expected a row of a CSV file: {error}") from None
    if len(lines) < 2:
        raise DataError(f"{path}: expected a row with the names of the columns, and rows with images below it")
    (_, head), *rows = lines
    return head, rows


def _column(path: Path, head: Sequence[str], kind: str, given: str | None, usual: Sequence[str]) -> int:
    """The number of the column with that name, or with one of the usual names."""
    if given is not None:
        if given not in head:
            raise DataError(f"{path}: expected a column {given}, as {kind}_column says, received {', '.join(head)}")
        return head.index(given)
    found = [number for number, name in enumerate(head) if name.lower() in usual]
    if len(found) == 1:
        return found[0]
    raise DataError(
        f"{path}: expected {'one column' if found else 'a column'} called {', '.join(usual[:4])} or the like, received "
        f"{', '.join(head)}; data.{kind}_column says which it is"
    )


def _sorted(names: set[str]) -> tuple[str, ...]:
    if all(name.isascii() and name.isdigit() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))
