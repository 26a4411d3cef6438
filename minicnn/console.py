"""Lines for the user: what happens on standard output, what is wrong on standard error."""

import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from html import escape

from minicnn.errors import MinicnnError

_muted = False


@contextmanager
def muted() -> Iterator[None]:
    """A block in which nothing is printed but errors: for one of several processes that do the same work."""
    global _muted
    _muted = True
    try:
        yield
    finally:
        _muted = False


def open_streams() -> None:
    """Gives a process without standard streams (2>&-, pythonw, a daemon) such that lead nowhere.

    Otherwise the next file that is opened would get the number of such a stream, and the messages of libraries.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def at_terminal() -> bool:
    """Whether standard error is a terminal, where a line may show progress."""
    try:
        return not _muted and sys.stderr.isatty()
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False


def printable(text: str) -> str:
    """`text` in which control characters, which may steer a terminal, are escaped; lines stay."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in "\n\t" or unicodedata.category(c) in _HARMLESS else repr(c)[1:-1] for c in text
    )


#: What `str.isprintable` says no to and no terminal obeys: spaces, and characters of later versions of Unicode.
_HARMLESS = ("Zs", "Cn", "Co")


def label(name: str, most: int = 60) -> str:
    """A name from a file, such as that of a class, as a piece of a line: printable, of at most `most` characters."""
    name = name if len(name) <= most else name[: most - 3] + "..."
    return printable(name).replace("\n", "\\n").replace("\t", "\\t")


class Table(str):
    """Lines of cells, which a notebook shows as a table."""

    lines: list[Sequence[str] | None]
    align: str
    below = ""

    def __add__(self, below: str) -> "Table":
        found = Table(str(self) + below)
        found.lines, found.align, found.below = self.lines, self.align, self.below + below
        return found

    def _repr_html_(self) -> str:
        sides = ["left" if side == "<" else "right" for side in self.align]
        rows, ruled = [], False
        for line in self.lines:
            if line is not None:
                style = "; border-top: 1px solid" if ruled else ""
                cells = zip(line, sides, strict=True)
                rows.append(
                    "".join(f'<td style="text-align: {side}{style}">{escape(cell)}</td>' for cell, side in cells)
                )
            ruled = line is None
        text = f"<p>{escape(self.below.strip())}</p>" if self.below else ""
        return "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + f"</table>{text}"


def table(rows: Iterable[Sequence[str] | None], align: str, head: Sequence[str] = ()) -> Table:
    """Cells in columns, two spaces apart; a rule below the head, and for each row that is None.

    align: for each column < (left) or > (right). By hand, as tabulate makes columns two wider than their heads.
    """
    lines = [head, None, *rows] if head else list(rows)
    widths = [max(map(len, column)) for column in zip(*filter(None, lines), strict=True)]
    rule = "-" * (sum(widths) + 2 * len(widths) - 2)

    def line(row: Sequence[str]) -> str:
        return "  ".join(f"{cell:{side}{w}}" for cell, side, w in zip(row, align, widths, strict=True)).rstrip()

    found = Table("\n".join(rule if row is None else line(row) for row in lines))
    found.lines, found.align = lines, align
    return found


def info(text: str) -> None:
    """A line on how a long work gets on, at once. Without a reader (`| head`, a closed session) the work goes on, and
    so it does, with a warning, when the disk of a file that it goes into is full."""
    problem = None if _muted else _write("stdout", text)
    if problem:
        warn(f"standard output cannot be written: {problem.strerror}")


def answer(text: str) -> None:
    """What a command was called for. Raises MinicnnError where it cannot be written; without a reader, it is done."""
    problem = None if _muted else _write("stdout", text)
    if problem:
        raise MinicnnError(f"standard output cannot be written: {problem.strerror}")


def tell(text: str) -> None:
    """A line on standard error. Where it cannot be written, that is no reason to end a run."""
    if not _muted:
        _write("stderr", text)


def warn(message: str) -> None:
    tell(f"warning: {message}")


def _write(name: str, text: str) -> OSError | None:
    """A line, whatever the stream: without characters that its encoding lacks, and nowhere if there is no stream.

    After an error the stream leads nowhere, so that Python does not complain again when it ends. The error is
    returned, if it is other than that nobody reads.
    """
    stream = getattr(sys, name)
    if stream is None or stream.closed:
        return None
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        line = printable(text).encode(encoding, "backslashreplace").decode(encoding)
        print(line, file=stream, flush=True)
    except OSError as problem:
        with suppress(OSError, ValueError):  # one that is no file
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return None if isinstance(problem, BrokenPipeError) else problem
    return None


def error(text: str) -> None:
    """What is wrong, on standard error, a line for each line of `text`."""
    for line in text.splitlines():
        _write("stderr", f"error: {line}")
