"""The choice between all threads and one, with a clock and threads that are not real."""

import types

import pytest

from minicnn.training.callbacks import threads as tuning


@pytest.fixture
def machine(monkeypatch):
    """Steps take machine.seconds[threads]; `run(n)` makes n of them and returns the threads of each."""
    machine = types.SimpleNamespace(now=0.0, threads=0, seconds={4: 1.0, 1: 3.0})

    def run(chooser, steps):
        threads = []
        for _ in range(steps):
            chooser.on_step_begin(None)
            threads.append(machine.threads)
            machine.now += machine.seconds[machine.threads]
        return threads

    machine.run = run
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: machine.now)
    monkeypatch.setattr(tuning.driver, "set_threads", lambda n: setattr(machine, "threads", n))
    return machine


def test_all_threads_where_they_are_faster(machine):
    threads = machine.run(tuning.ThreadTuner(4), tuning.PERIOD)
    assert threads[: tuning.PROBE] == [4] * tuning.PROBE
    assert threads[tuning.PROBE : 2 * tuning.PROBE] == [1] * tuning.PROBE
    assert set(threads[2 * tuning.PROBE :]) == {4}


def test_one_thread_while_the_cores_are_busy_and_all_again_afterwards(machine):
    chooser = tuning.ThreadTuner(4)
    machine.seconds = {4: 20.0, 1: 3.0}
    assert set(machine.run(chooser, tuning.PERIOD)[tuning.PROBE :]) == {1}
    machine.seconds = {4: 1.0, 1: 3.0}
    assert set(machine.run(chooser, tuning.PERIOD)[2 * tuning.PROBE :]) == {4}


def test_a_single_slow_step_decides_nothing(machine):
    chooser = tuning.ThreadTuner(4)
    machine.run(chooser, 3)
    machine.now += 1000
    assert machine.run(chooser, 2 * tuning.PROBE)[-1] == 4
