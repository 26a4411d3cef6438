"""What is shown while kernels compile: at a terminal how far it is, elsewhere one line, and nothing if all is quick."""

import io
from contextlib import redirect_stderr

import numpy as np
import pytest

import minicnn.compiling
from minicnn import Conv2d, Flatten, ReLU, Sequential
from minicnn.compiling import compiling


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def network():
    return Sequential([Conv2d(1, 6, 5, padding=2), ReLU(), Flatten()])


@pytest.fixture
def cold(monkeypatch):
    monkeypatch.setattr(minicnn.compiling, "cache_is_warm", lambda: False)


def a_step(network):
    y = network.forward(np.ones((2, 1, 28, 28), np.float32), training=True)
    network.backward(y)


def test_a_terminal_shows_each_layer_and_pass_and_is_cleared_at_the_end(network, cold):
    said = []
    with redirect_stderr(Terminal()) as terminal, compiling(network, 2, said.append):
        a_step(network)
    shown = [line.strip() for line in terminal.getvalue().split("\r") if "layer" in line]
    assert [line.rpartition(", 00:")[0] for line in shown] == [
        f"compiling kernels, once per machine: {n} of 6, layer {i} {name}, {way}"
        for n, (i, name, way) in enumerate(
            (
                (0, "Conv2d", "forward"),
                (1, "ReLU", "forward"),
                (2, "Flatten", "forward"),
                (2, "Flatten", "backward"),
                (1, "ReLU", "backward"),
                (0, "Conv2d", "backward"),
            ),
            1,
        )
    ]
    assert terminal.getvalue().split("\r")[-2].strip() == ""
    assert said == []
    assert network.watch is None


def test_more_passes_than_announced_change_nothing(network, cold):
    with redirect_stderr(Terminal()) as terminal, compiling(network, 2):
        a_step(network)
        before = terminal.getvalue()
        a_step(network)
        assert terminal.getvalue() == before


def test_elsewhere_there_is_one_line(network, cold, capsys):
    said = []
    with compiling(network, 2, said.append):
        a_step(network)
    assert said == ["compiling kernels, once per machine ..."]
    assert capsys.readouterr().err == ""


def test_kernels_that_are_only_loaded_show_nothing(network, monkeypatch):
    a_step(network)
    monkeypatch.setattr(minicnn.compiling, "cache_is_warm", lambda: True)
    said = []
    with redirect_stderr(Terminal()) as terminal, compiling(network, 2, said.append):
        a_step(network)
    assert "layer" not in terminal.getvalue()
    assert said == []


def test_an_error_clears_the_line_and_the_network(network, cold):
    with (
        redirect_stderr(Terminal()) as terminal,
        pytest.raises(ZeroDivisionError),
        compiling(network, 2),
    ):
        a_step(network)
        raise ZeroDivisionError
    assert terminal.getvalue().split("\r")[-2].strip() == ""
    assert network.watch is None
