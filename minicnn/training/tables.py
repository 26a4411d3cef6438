"""Tables that grow while a network trains, as CSV files, which a kill leaves whole but for their last line."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minicnn.errors import MinicnnError
from minicnn.files import write_whole

Row = Mapping[str, Any]


class _GrowingFile:
    """A file that grows at its end. What could not be written waits for the next `flush`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = self.synced = 0  # how much was written completely, and to the very disk
        self.waiting = bytearray()

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


class Table(_GrowingFile):
    """A CSV file of numbers with a line of column names, those of the first row."""

    def begin(self, rows: Sequence[Row]) -> None:
        """Makes these the only rows, in the file at once. Raises MinicnnError."""
        self.size = 0
        self.waiting.clear()
        for row in rows:
            self.add(row)
        write_whole(self.path, bytes(self.waiting))
        self.size = self.synced = len(self.waiting)
        self.waiting.clear()

    def add(self, row: Row) -> None:
        if not self.size and not self.waiting:
            self.waiting += (",".join(row) + "\n").encode()
        self.waiting += (",".join(map(str, row.values())) + "\n").encode()


def read_table(path: Path) -> list[dict[str, int | float]]:
    """The rows of such a file; half a line at its end, which a kill may leave, does not count.

    Raises MinicnnError for a file that is not there, or no table of numbers.
    """
    try:
        head, *lines = path.read_text().splitlines(keepends=True)
        names = head.rstrip("\n").split(",")
        whole = [line[:-1].split(",") for line in lines if line.endswith("\n")]
        return [dict(zip(names, map(_number, values), strict=True)) for values in whole]
    except (OSError, ValueError) as error:
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
