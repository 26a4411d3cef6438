"""What is shown while kernels compile: at a terminal how far it is, elsewhere one line; nothing if all are there."""

import io
import sys
from contextlib import redirect_stderr

import numpy as np
import pytest
from lane_programs import forget

from minicnn import Flatten, ReLU, Sequential
from minicnn.engine import cache
from minicnn.engine.progress import NOTICE, Preparation, compiling
from minicnn.errors import MinicnnError


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def network():
    return Sequential([ReLU(), Flatten()])


def a_pass(network):
    return network.forward(np.ones((2, 1, 3, 3), np.float32))


def requests():
    return [(cache.Kernel("minicnn.kernels.activation", "relu_forward"), "ff")]


NAMES = ["lanes.pack", "lanes.unpack", "activation.relu_forward"]


@pytest.fixture
def cold(monkeypatch):
    """Three kernels are not there, so many that other processes would compile them, which this one does sooner."""
    forget(monkeypatch, *NAMES)
    monkeypatch.setattr(sys, "executable", "")


def test_a_terminal_shows_each_kernel_and_is_cleared_at_the_end(network, monkeypatch):
    """Those that other processes compile."""
    forget(monkeypatch, *NAMES)
    monkeypatch.setattr(cache, "FEW", 2)
    said, before = [], cache.compiled
    with redirect_stderr(Terminal()) as terminal, compiling(said.append):
        a_pass(network)
    assert cache.compiled == before + 3
    shown = [line.strip() for line in terminal.getvalue().split("\r") if NOTICE in line]
    counts = [line.partition(": ")[2].split(",")[0] for line in shown]
    assert [count for n, count in enumerate(counts) if count not in counts[:n]][-4:] == [
        "0 of 3",
        "1 of 3",
        "2 of 3",
        "3 of 3",
    ]
    last = {line.split(", ")[-2] for line in shown if "of 3, " in line and line.count(", ") > 2}
    assert last == set(NAMES)
    assert terminal.getvalue().split("\r")[-2].strip() == ""
    assert said == []


def test_a_program_more_counts_on(network, monkeypatch):
    forget(monkeypatch, "activation.relu_forward")
    with redirect_stderr(Terminal()) as terminal, compiling():
        a_pass(network)
        forget(monkeypatch, "activation.relu_forward")
        cache.addresses(requests())
    assert "1 of 1" in terminal.getvalue()
    assert "2 of 2" in terminal.getvalue()


def test_elsewhere_there_is_one_line(network, cold, capsys):
    said = []
    with compiling(said.append):
        a_pass(network)
    assert said == ["compiling kernels, once per machine ..."]
    assert capsys.readouterr().err == ""


def test_kernels_that_are_only_loaded_show_nothing(network):
    a_pass(network)
    said = []
    with redirect_stderr(Terminal()) as terminal, compiling(said.append):
        a_pass(Sequential(network.layers))
    assert terminal.getvalue() == ""
    assert said == []


def test_an_error_clears_the_line_and_the_hook(network, cold):
    before = cache._announce
    with redirect_stderr(Terminal()) as terminal, pytest.raises(ZeroDivisionError), compiling():
        a_pass(network)
        raise ZeroDivisionError
    assert terminal.getvalue().split("\r")[-2].strip() == ""
    assert cache._announce is before


def test_what_is_prepared_meanwhile_is_there_afterwards(network, monkeypatch):
    forget(monkeypatch, "activation.relu_forward")
    said = []
    with Preparation(requests, said.append) as preparation:
        pass
    assert preparation.seconds > 0
    assert said == ["compiling kernels, once per machine ..."]
    before = cache.compiled
    a_pass(network)
    assert cache.compiled == before


def test_an_error_of_the_preparation_is_raised_after_the_block():
    def fail():
        raise MinicnnError("no such kernel")

    done = []
    with pytest.raises(MinicnnError, match="no such kernel"), Preparation(fail, None):
        done.append("block")
    assert done == ["block"]
    with pytest.raises(ZeroDivisionError), Preparation(fail, None):
        raise ZeroDivisionError
