"""What is printed, and what happens when it cannot be."""

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minicnn.cli.doctor
from minicnn import Dense, Flatten, Model, Sequential, console
from minicnn.cli import main
from minicnn.console import label, printable

ROOT = Path(__file__).parents[1]
NAMES = ("\x1b[31mred\x07", "caf\u00e9 \u732b")
SETTINGS = """\
network: {layers: [Flatten, Dense: {out_features: 2}]}
data: {name: folder, path: images, validation: 0.5}
optimizer: {lr: 0.01}
training: {epochs: 1, threads: 1}
output: {lint: false}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with settings, images of classes with names that no terminal should get, and a model."""
    for seed, name in enumerate(NAMES):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(2):
            pixels = np.random.default_rng(seed + 2 * number).integers(0, 256, (4, 4), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    (tmp_path / "small.yaml").write_text(SETTINGS)
    network = Sequential([Flatten(), Dense(16, 2)])
    Model(network, (1, 4, 4), classes=NAMES).save(tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def started(arguments: list[str], shell: str = "", **environment: str) -> "subprocess.CompletedProcess[bytes]":
    """`minicnn` in a process of its own, with redirections in a shell's words."""
    command = f'exec "$0" -m minicnn "$@" {shell}'
    return subprocess.run(
        ["sh", "-c", command, sys.executable, *arguments],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        check=False,
    )


PREDICT = ["predict", "model.safetensors", f"images/{NAMES[1]}/0.png"]


def test_a_process_whose_console_has_only_ascii(folder: Path) -> None:
    done = started(["train", "small.yaml"], PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    [run] = (folder / "runs").iterdir()
    assert (run / "confusion.png").is_file()
    assert rb"\u732b" in started(PREDICT, PYTHONIOENCODING="ascii").stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_characters_that_the_console_lacks_are_escaped(
    folder: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def output(*arguments: str) -> bytes:
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        assert main(arguments) == 0
        assert sys.stderr.buffer.getvalue() == b""
        return sys.stdout.buffer.getvalue()

    output("train", "small.yaml", "output.pictures=false")
    [run] = (folder / "runs").iterdir()
    for arguments in (PREDICT, ["evaluate", str(run)]):
        out = output(*arguments)
        assert ("\u732b" if encoding == "utf-8" else r"\u732b").encode() in out
        assert b"\x1b" not in out
        assert rb"\x1b[31mred\x07" in out


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_end_a_run(folder: Path, closed: str) -> None:
    assert started(["train", "small.yaml"], closed).returncode == 0
    [run] = (folder / "runs").iterdir()
    assert (run / "model.safetensors").is_file() and (run / "confusion.png").is_file()
    assert started(["train", "none.yaml"], closed).returncode == 2


@pytest.mark.parametrize("kind", ["none", "closed"])
def test_a_library_needs_no_streams(folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdout", "stderr"):
        stream = io.StringIO()
        stream.close()
        monkeypatch.setattr(sys, name, None if kind == "none" else stream)
    console.info("a line")
    console.warn("a line")
    console.answer("a line")
    assert not console.at_terminal()


full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
CANNOT = "error: standard output cannot be written: No space left on device\n"


@full
@pytest.mark.parametrize(
    "arguments",
    [
        PREDICT,
        [*PREDICT, "--json"],
        ["train", "small.yaml", "--print-config"],
        ["evaluate", "model.safetensors", "--data", "folder", "--path", "images", "--json"],
        ["summary", "small.yaml"],
    ],
)
def test_an_answer_that_cannot_be_written_is_an_error(
    folder: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(arguments) == 1
    assert capsys.readouterr().err == CANNOT


@full
@pytest.mark.parametrize("arguments", [["summary", "small.yaml"], ["--help"], ["--version"]])
def test_python_does_not_complain_of_it_again_when_it_ends(folder: Path, arguments: list[str]) -> None:
    done = started(arguments, "> /dev/full")
    assert (done.returncode, done.stderr.decode()) == (1, CANNOT)


def test_printable() -> None:
    assert printable("a b\u00a0c\n\u732b \U0001f600\t") == "a b\u00a0c\n\u732b \U0001f600\t"
    assert printable("\x1b[2J\r\x9b\x7f\u202e\ud800\u2028") == (r"\x1b[2J\r\x9b\x7f\u202e\ud800\u2028")


def test_names_are_short_and_of_one_line() -> None:
    assert label("cat") == "cat"
    assert label("a\nb\tc") == r"a\nb\tc"
    assert label("x" * 10_000_000) == "x" * 57 + "..."


@pytest.mark.parametrize("name", ["$x$", "$", "a$b^{", "\ud800", "x" * 100_000, "\x00", "\u732b"])
def test_names_in_pictures(tmp_path: Path, name: str) -> None:
    from minicnn.inspect.plots.figures import plot_confusion, plot_errors
    from minicnn.inspect.plots.maps import Panel, plot_maps

    labels, other = np.array([0, 1, 1]), np.array([0, 0, 1])
    plot_confusion(tmp_path / "1.png", labels, other, (name, "b"))
    images, shares = np.zeros((3, 1, 8, 8), np.uint8), np.ones(3)
    plot_errors(tmp_path / "2.png", images, labels, other, shares, (name, "b"))
    plot_maps(tmp_path / "3.png", Panel("", "", np.arange(2.0), (label(name), "b")), "Layer")
    for number in (1, 2, 3):
        with Image.open(tmp_path / f"{number}.png") as image:
            assert max(image.size) < 4000


def failing(error: Exception) -> Callable[[object], int]:
    def command(arguments: object) -> int:
        raise error

    return command


@pytest.mark.parametrize("error", [ZeroDivisionError("one\ntwo"), AssertionError(), KeyError("\x1b")])
def test_a_fault_has_one_line_and_a_log_file(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(minicnn.cli.doctor, "run", failing(error))
    assert main(["doctor"]) == 70
    out, err = capsys.readouterr()
    [log] = tmp_path.iterdir()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"error: {type(error).__name__}")
    assert err.endswith(f"please report it; its traceback is in {log}\n")
    text = log.read_text()
    assert text.startswith(f"minicnn {minicnn.__version__}, Python ")
    assert "Traceback (most recent call last)" in text
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    assert main(["doctor"]) == 70
    assert "its traceback cannot be written: No such file" in capsys.readouterr().err


def test_too_little_memory_is_no_fault(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(minicnn.cli.doctor, "run", failing(MemoryError("20 GiB")))
    assert main(["doctor"]) == 1
    assert capsys.readouterr().err == ("error: expected work that fits into memory, received more: 20 GiB\n")


def test_an_error_keeps_control_characters_from_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console.error("\x1b]0;title\x07")
    assert capsys.readouterr().err == "error: \\x1b]0;title\\x07\n"


def test_a_table() -> None:
    rows = [("a", "1,000", "x"), None, ("total", "1", "")]
    assert console.table(rows, "<><", ("", "count", "kind")) == (
        "       count  kind\n------------------\na      1,000  x\n------------------\ntotal      1"
    )
    assert console.table([("a", "b"), ("ccc", "")], ">>") == "  a  b\nccc"
