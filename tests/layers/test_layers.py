"""Every layer against torch and against its NumPy twin: forward pass and all gradients, within its own memory."""

import numpy as np
import pytest
from against_torch import TorchLocallyConnected2d, assert_same, compare_passes, compare_with_torch
from layer_cases import CASES, each_case
from torch import nn

import minicnn.layers
from minicnn import Dense, LaneLayer, Layer, LocallyConnected2d, Sequential
from minicnn.engine import memory, work
from minicnn.kernels import LANES
from minicnn.layers import sequential


def test_every_layer_has_a_case():
    public = {getattr(minicnn.layers, name) for name in minicnn.layers.__all__}
    kinds = {kind for kind in public if issubclass(kind, Layer) and kind not in (Layer, LaneLayer)}
    assert {type(case.make()) for case in CASES} == kinds | {Sequential}


@each_case
def test_layer_in_float32_equals_torch(case, rng):
    ours, theirs = case.twins()
    for n in (1, LANES - 1, LANES, LANES + 1):
        x = 2 * rng.standard_normal((n, *case.shape)).astype(np.float32)
        compare_passes(ours, theirs, x)


@each_case
def test_layer_in_float64_equals_torch_and_its_twin(case, rng):
    ours, theirs = case.twins(np.float64)
    x = 2 * rng.standard_normal((LANES + 1, *case.shape))
    expected = compare_passes(ours, theirs, x)
    if case.numpy is not None:
        forward, backward = case.numpy(ours.options())
        parameters = [p.detach().numpy() for p in theirs.parameters()]
        y = forward(x, *parameters)
        dy = np.random.default_rng(0).standard_normal(y.shape)
        gradients = backward(dy, x, *parameters)
        assert_same([y, *(gradients if isinstance(gradients, tuple) else (gradients,))], expected)


@pytest.mark.parametrize("n", [4 * LANES, 6 * LANES + 1])
def test_locally_connected_layer_on_many_blocks(n, rng):
    """Enough for a tile of several blocks, and more outputs than such a tile has."""
    x = rng.standard_normal((n, 2, 6, 6)).astype(np.float32)
    compare_with_torch(LocallyConnected2d(2, 7, 6, 3), TorchLocallyConnected2d(2, 7, 6, 3), x)


@pytest.mark.parametrize("n", [4 * LANES, 7 * LANES + 1])
def test_dense_layer_on_many_blocks(n, rng):
    """Enough for a tile of several blocks, and then some."""
    x = rng.standard_normal((n, 20)).astype(np.float32)
    compare_with_torch(Dense(20, 23), nn.Linear(20, 23), x)


GUARD = 4096


@pytest.fixture
def guards(monkeypatch):
    """Arrays of programs and networks, and maps within them, lie between guards of NaN; returns the list of guards.

    No two maps share memory then.
    """
    found = []
    finish = work.Work.finish

    def guarded_zeros(size, dtype):
        whole = np.full(size + 2 * GUARD, np.nan if np.dtype(dtype).kind == "f" else 0, dtype)
        whole[GUARD:-GUARD] = 0
        if whole.dtype.kind == "f":
            found.extend([whole[:GUARD], whole[-GUARD:]])
        return whole[GUARD:-GUARD]

    def guarded_plan(arena):
        for buffer in arena.buffers:
            buffer.offset = arena.size
            arena.size += buffer.size + GUARD

    def guarded_finish(work):
        finished = finish(work)
        for arena in (work._threads, work._blocks):
            for buffer in arena.buffers:
                end = buffer.offset + buffer.size
                guard = arena.array.reshape(-1, arena.size)[:, end : end + GUARD]
                guard[...] = np.nan
                found.append(guard)
        return finished

    monkeypatch.setattr(memory.Arena, "plan", guarded_plan)
    monkeypatch.setattr(work.Work, "finish", guarded_finish)
    monkeypatch.setattr(work, "aligned_zeros", guarded_zeros)
    monkeypatch.setattr(sequential, "aligned_zeros", guarded_zeros)
    return found


@each_case
def test_layer_stays_inside_its_memory(case, rng, guards):
    """A NaN that is read shows in the results, one that is written to is missed afterwards."""
    x = rng.standard_normal((LANES + 1, *case.shape))
    ours, theirs = case.twins(np.float64)
    compare_passes(Sequential([ours]), theirs, x)
    assert guards
    assert all(np.isnan(guard).all() for guard in guards)
