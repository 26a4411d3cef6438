"""A user's own images, named in a CSV file."""

from pathlib import Path

import numpy as np
import pytest
from data_files import error_of
from folders_of_images import write

from minicnn.data import Dataset, load_dataset

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Where a table goes, beside a folder of nine images."""
    for number in range(9):
        write(tmp_path / "photos" / f"{number}.png", number)
    return tmp_path / "own.csv"


def load(table: Path, text: str, **options: object) -> Dataset:
    table.write_text(text, encoding="utf-8-sig")
    return load_dataset("csv", path=table, **options)  # type: ignore[arg-type]


def rows(*names: str, head: str = "path,label", part: str = "") -> str:
    return "\n".join([head, *(f"photos/{number}.png,{name}{part}" for number, name in enumerate(names))])


def test_images_are_those_of_the_table_in_its_order(table: Path) -> None:
    whole = load(table, rows("wren", "owl", "wren") + "\n,\n\n", test_on_all=True)
    expected = [write(table.parent / "again.png", number).transpose(2, 0, 1) for number in range(3)]
    np.testing.assert_array_equal(whole.train_images, expected)
    assert (whole.classes, whole.train_labels.tolist(), whole.name) == (("owl", "wren"), [1, 0, 1], "csv")


def test_columns_are_found_or_named(table: Path) -> None:
    text = "id;Category;File\n1;10;photos/0.png\n2;9;photos/1.png\n3;10;photos/2.png\n4;9;photos/3.png\n"
    found = load(table, text, validation=0.5)
    assert found.classes == ("9", "10")  # numbers in their order
    assert (len(found.train_labels), len(found.test_labels), found.held_out) == (2, 2, "validation")
    named = load(table, text, test_on_all=True, label_column="id", resize=4, grey=True)
    assert (named.classes, named.train_images.shape) == (("1", "2", "3", "4"), (4, 1, 4, 4))


def test_a_column_says_what_is_held_out(table: Path) -> None:
    parts = ["train", "Training", "valid", "test", "test", "dev"]
    lines = [f'"photos/{number}.png",{"ab"[number % 2]},{part}' for number, part in enumerate(parts)]
    found = load(table, "\n".join(["image,class,fold", *lines]), split_column="fold")
    assert (found.train_labels.tolist(), found.test_labels.tolist(), found.held_out) == ([0, 1], [0, 1], "validation")
    found = load(table, "\n".join(["image,class,split", *lines[:2], *lines[3:5]]))
    assert (found.test_labels.tolist(), found.held_out) == ([1, 0], "test")


MISTAKES = {
    "no column": (
        rows("a", "b", head="which,label"),
        {},
        "called path, file, filename, file_name or the like, received",
    ),
    "two columns": (rows("a", "b", head="path,file"), {"label_column": "file"}, "expected one column called path"),
    "another name": (
        rows("a", "b"),
        {"label_column": "kind"},
        "expected a column kind, as label_column says, received",
    ),
    "one class": (rows("a", "a"), {}, "column label: expected two or more classes, received 1"),
    "an empty cell": (rows("a", "", "b"), {}, "line 3: expected something in column label, received nothing"),
    "a short row": ("path,label\nphotos/0.png", {}, "line 2: expected something in column label"),
    "no rows": ("path,label\n", {}, "rows with images below it"),
    "a split": (rows("a", "b", head="path,label,split", part=",some"), {}, "line 2: expected train, val or test"),
    "no training": ("path,label,split\nx,a,train\ny,b,test", {}, "training images of every class, received none of b"),
    "nothing held out": (rows("a", "b"), {"test_on_all": False}, "expected images that are not trained on"),
    "no such image": (rows("a", "b") + "\nx.png,a", {}, "x.png: expected an image file, received nothing"),
    "a quotation": ('path,label\n"x,a\n', {}, "expected a row of a CSV file"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_one_line(table: Path, kind: str) -> None:
    text, options, expected = MISTAKES[kind]
    message = error_of(lambda: load(table, text, **{"test_on_all": True, **options}))
    assert expected in message and str(table.parent) in message


def test_other_bytes_and_other_data_sets(table: Path) -> None:
    table.write_bytes(b"path,label\n\xff,a\n")
    assert "a CSV file in UTF-8" in error_of(lambda: load_dataset("csv", path=table, test_on_all=True))
    message = error_of(lambda: load_dataset("folder", path=table.parent, label_column="x"))
    assert message == "data set folder: expected no label_column with it, received x"
