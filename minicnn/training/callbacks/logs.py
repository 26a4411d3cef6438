"""The files that grow while a network trains: metrics.csv, timings.csv, steps.csv, and TensorBoard's events.

All but the times are the same for a run that was stopped and resumed as for one that was not.
"""

import importlib.util
import io
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minicnn.config.settings import Output
from minicnn.errors import ConfigError, MinicnnError
from minicnn.files import write_whole
from minicnn.training.run_folder import RunFolder

Row = Mapping[str, Any]

TABLES = ("metrics.csv", "timings.csv")  # with a row an epoch
FLUSH_EVERY = 100  # steps: a reader of steps.csv sees those before


class Logs:
    """What a run writes down, epoch by epoch and, if wanted, step by step.

    A file that cannot be written costs a warning; its rows are written when that is possible again.
    """

    def __init__(self, folder: RunFolder, output: Output) -> None:
        self._folder = folder
        self._tables = {name: Table(folder.path / name) for name in TABLES}
        self._steps = StepLog(folder.path / "steps.csv") if output.step_log else None
        self._events = Events(folder.path) if output.tensorboard else None
        #: Whether `step` wants to be called: without it, nothing is done at a step.
        self.every_step = output.step_log

    def go_on(self, step: int, *rows: Sequence[Row]) -> None:
        """Before the first step after `step`: what is there of later ones is going to come again.

        `rows` are those of metrics.csv and of timings.csv so far.
        """
        for (name, table), kept in zip(self._tables.items(), rows, strict=False):
            if kept:
                self._folder.attempt(name, table.begin, kept)
        if self._steps:
            self._folder.attempt("steps.csv", self._steps.cut, step)
        if self._events:
            self._events.forget(step + 1)

    def step(self, row: Row) -> None:
        """A row of steps.csv: step, epoch, lr, loss and accuracy of the batch before the update."""
        if self._steps:
            self._steps.add(row)
        if self._events:
            self._events.add(row["step"], {"step/loss": row["loss"], "step/lr": row["lr"]})
        if row["step"] % FLUSH_EVERY == 0:
            self.flush()

    def epoch(self, metrics: Row, timings: Row) -> None:
        """The rows of an epoch. Those before are not touched, so that a long run does not slow down."""
        for (name, table), row in zip(self._tables.items(), (metrics, timings), strict=True):
            table.add(row)
            self._folder.attempt(name, table.flush)
        if self._events:
            figures = {**metrics, "images_per_second": timings["images_per_second"]}
            step = figures.pop("step")
            # TensorBoard draws "train/loss" and "test/loss" as two charts of one group each.
            names = {key: key.replace("_", "/", 1) for key in metrics if "_" in key}
            self._events.add(step, {names.get(key, key): x for key, x in figures.items()})

    def flush(self, sync: bool = False) -> None:
        """Writes what is waiting; with `sync` it is on the disk afterwards, whatever happens to the machine."""
        for name, table in self._tables.items():
            self._folder.attempt(name, table.flush, sync)
        if self._steps:
            self._folder.attempt("steps.csv", self._steps.flush, sync)
        if self._events:
            self._folder.attempt("TensorBoard's events", self._events.flush, sync)


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


class StepLog(Table):
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


class Events(_GrowingFile):
    """A file of events for TensorBoard, which shows all that it finds in a folder as one run."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        stamp = f"{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        super().__init__(folder / f"events.out.tfevents.{stamp}")
        self._event, self._summary, self._session = (event_pb2.Event, summary_pb2.Summary, event_pb2.SessionLog)
        self._buffer = io.BytesIO()
        self._writer = RecordWriter(self._buffer)
        self._write(file_version="brain.Event:2")

    def forget(self, step: int) -> None:
        """TensorBoard drops the events of that step and later ones, from whichever file."""
        self._write(step=step, session_log=self._session(status=self._session.START))

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        values = [self._summary.Value(tag=tag, simple_value=x) for tag, x in figures.items()]
        self._write(step=step, summary=self._summary(value=values))

    def _write(self, **content: Any) -> None:
        event = self._event(wall_time=time.time(), **content)
        self._writer.write(event.SerializeToString())
        self.waiting += self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()


def check_available(output: Output) -> None:
    """Raises ConfigError if TensorBoard's events are wanted and its package is not there."""
    if output.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ConfigError(
            "output.tensorboard: expected the package tensorboard with it, which is not installed: "
            "pip install tensorboard"
        )
