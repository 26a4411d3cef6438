"""Tables that grow while a network trains, as CSV files, which a kill leaves whole but for their last line."""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from minicnn.errors import MinicnnError
from minicnn.files import write_whole

Row = Mapping[str, Any]


class Table:
    """A CSV file that grows at its end, with a line of column names, those of the first row.

    No value has more than one line. What could not be written waits for the next `flush`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = self.synced = 0  # how much was written completely, and to the very disk
        self.waiting = bytearray()

    def add(self, row: Row) -> None:
        if not self.size and not self.waiting:
            self.waiting += _line(row)
        self.waiting += _line(row.values())

    def flush(self, sync: bool = False) -> None:
        """Raises OSError where the file cannot be written."""
        if not self.waiting and (not sync or self.synced == self.size):
            return
        with self.path.open("r+b" if self.size else "wb") as file:
            file.seek(self.size)
            file.truncate()  # half a line that an earlier attempt has left
            file.write(self.waiting)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        self.size += len(self.waiting)
        self.waiting.clear()
        if sync:
            self.synced = self.size

    def begin(self, rows: Sequence[Row]) -> None:
        """Makes these the only rows, in the file at once. Raises MinicnnError."""
        self.size = 0
        self.waiting.clear()
        for row in rows:
            self.add(row)
        write_whole(self.path, bytes(self.waiting))
        self.size = self.synced = len(self.waiting)
        self.waiting.clear()


def _line(values: Iterable[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode()


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of such a file; half a line at its end, which a kill may leave, does not count.

    Raises MinicnnError for a file that is not there, or no table.
    """
    try:
        whole = path.read_text("utf-8").split("\n")[:-1]
        head, *rows = list(csv.reader(whole)) or [[]]
        return [dict(zip(head, row, strict=True)) for row in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise MinicnnError(f"{path}: expected a table: {error}") from None


def read_table(path: Path) -> list[dict[str, int | float]]:
    """The rows of such a file of numbers. Raises MinicnnError as `read_rows`, and for what is no number."""
    try:
        return [{key: _number(text) for key, text in row.items()} for row in read_rows(path)]
    except ValueError as error:
        raise MinicnnError(f"{path}: expected a table of numbers: {error}") from None


def _number(text: str) -> int | float:
    return int(text) if text.isdigit() else float(text)


class StepTable(Table):
    """steps.csv: a row a step."""

    HEADER = b"step,epoch,lr,loss,accuracy\n"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.waiting += self.HEADER

    def cut(self, step: int) -> None:
        """Keeps the rows up to that step of a file that is there already. Raises OSError."""
        if not step or not self.path.exists():
            return
        content = self.path.read_bytes()
        if not content.startswith(self.HEADER):
            return  # not ours, or not begun: it will be written anew
        end = len(self.HEADER)
        for line in content[end:].splitlines(keepends=True):
            number = line.partition(b",")[0]
            if not (line.endswith(b"\n") and number.isdigit() and int(number) <= step):
                break
            end += len(line)
        self.size = end
        self.waiting.clear()
