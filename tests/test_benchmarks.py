"""The benchmarks run and write what they should; nothing here depends on how fast anything is."""

import json
import math
import os
import subprocess
from pathlib import Path

import pytest
import torch
from arithmetic import Arithmetic

from benchmarks import __main__ as benchmarks
from benchmarks import accuracy, harness, kernels, rivals, startup, targets, training
from benchmarks.networks import Case, Dense, Network, lenet, vgg
from minicnn import selftest
from minicnn.models import lenet5


@pytest.fixture
def one_torch_thread():
    yield
    torch.set_num_threads(1)


def test_all_benchmarks_run_and_write_tables_figures_and_plots(
    tmp_path, monkeypatch, one_torch_thread
):
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    names = ["training", "evaluation", "scaling", "kernels", "others"]
    benchmarks.main(["--quick", "--output", str(tmp_path), "--only", *names])
    results = json.loads((tmp_path / "RESULTS.json").read_text())
    assert results.keys() == {"machine", "minutes", *names}
    [row] = results["training"]["rows"]
    assert row["same_bits_again"]
    assert row["same_bits_1_and_2_threads"]
    assert [len(rounds) for rounds in row["images_per_second"].values()] == [2] * 5
    assert all(rate > 0 for rounds in row["images_per_second"].values() for rate in rounds)
    [latency] = results["evaluation"]["latency"]
    for rounds in latency["microseconds"].values():
        assert all(0 < median <= late for median, late in rounds)
    text = (tmp_path / "RESULTS.md").read_text()
    for title in (
        "To reach",
        "Training LeNet-5",
        "Evaluating LeNet-5",
        "Wider and larger",
        "Kernels",
    ):
        assert f"\n## {title}" in text
    for picture in ("training.png", "scaling.png"):
        assert f"({picture})" in text
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_a_benchmark_alone_prints_its_table_and_writes_json(tmp_path, capsys):
    harness.run(kernels, ["--quick", "--rounds", "3", "--json", str(tmp_path / "kernels.json")])
    written = json.loads((tmp_path / "kernels.json").read_text())
    [(name, layer)] = written["result"]["layers"].items()
    assert len(written["result"]["peak"]["1"]) == len(layer["1"]["forward"]) == 3
    assert min(written["result"]["peak"]["1"]) > 0
    assert f"| {name} | forward |" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["--rounds", "0"], ["--seconds", "0"], ["--seconds", "nan"]])
def test_rounds_and_seconds_have_to_be_positive(wrong):
    with pytest.raises(SystemExit, match="received"):
        harness.run(kernels, wrong)


def test_a_worker_is_a_process_with_its_threads():
    before = os.environ.get("OMP_NUM_THREADS")
    worker = harness.Team().worker("arithmetic", Arithmetic, 3)
    threads, variable, process = worker.call("settings")
    assert (threads, variable) == (3, "3")
    assert process != os.getpid()
    assert os.environ.get("OMP_NUM_THREADS") == before
    with pytest.raises(SystemExit, match="arithmetic, 3 threads: the process ended in fail"):
        worker.call("fail")


def test_start_up_is_timed_in_processes_of_its_own(capsys):
    result = startup.measure(harness.Team(), harness.Options(rounds=1, quick=True))
    [warm] = result["warm"]
    assert (
        min(result["cold"]["seconds"], warm["seconds"], *result["import"], *result["import_all"])
        > 0
    )
    assert warm["megabytes"] > 50
    assert "peak memory" in startup.report(result)


def test_a_start_that_fails_says_why(tmp_path):
    with pytest.raises(SystemExit, match=r"exit code 1(.|\n)*one.npz"):
        startup._train(tmp_path, None)


def test_time_to_accuracy_comes_from_the_record_program(monkeypatch):
    figures = {"runs": [{}, {}], "config": "a.yaml", "data": "mnist"}
    figures |= {"accuracy": {"mean": 0.991}, "seconds": {"mean": 1.2}}

    def record(command, **options):
        assert command[2:6] == ["benchmarks.speedrun", "--seeds", "2", "--json"]
        assert command[7:] == ["data.root=/my/data"]
        Path(command[6]).write_text(json.dumps(figures))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", record)
    result = accuracy.measure(harness.Team(), harness.Options(rounds=2, data="/my/data"))
    assert result == figures
    verdicts = [target.verdict for target in targets.find({"accuracy": result})]
    assert verdicts == ["reached", "reached", "20% too much", "58% too much"]


def test_time_to_accuracy_is_left_out_where_it_cannot_be_measured(monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "warning: x\nerror: no copy of MNIST\n")
    monkeypatch.setattr(subprocess, "run", lambda command, **options: failed)
    result = accuracy.measure(harness.Team(), harness.Options(rounds=2))
    assert accuracy.report(result) == "Not measured: error: no copy of MNIST"
    assert targets.find({"accuracy": result}) == []


def test_rounds_alternate_and_ratios_are_taken_within_a_round():
    order = []

    class Recorder:
        def __init__(self, name):
            self.name = name

        def call(self, task, seconds, number):
            order.append(self.name)
            return number * seconds

    options = harness.Options(rounds=3, seconds=0.5, quick=True)
    measured = harness.rates([Recorder("a"), Recorder("b")], "work", options, 8)
    assert measured == {"a": [4.0] * 3, "b": [4.0] * 3}
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert harness.ratios([6, 8, 5], [2, 4, 5]) == [3, 2, 1]
    assert harness.spread([3, 1, 2], ".1f") == "2.0 (1.0 - 3.0)"


def test_rivals_that_do_not_train_the_same_network_are_not_timed():
    team = harness.Team(quick=True)
    case = Case(Network("one layer", (1, 28, 28), ("flatten", Dense(784, 10))), 64, 128)
    workers = [team.worker(name, rivals.Minicnn, 1) for name in ("a", "b")]
    rivals.prepare(workers, case)
    weights = workers[0]._target.weights
    workers[0]._target.weights = [1.5 * weight for weight in weights]
    workers[0]._target.prepare = lambda case, weights: None
    with pytest.raises(SystemExit, match="expected the losses of a, 1 thread within"):
        rivals.prepare(workers, case)


def test_the_networks_are_those_of_the_package_and_fit_their_inputs():
    rival = rivals.Minicnn()
    sizes = {}
    for network in (lenet(), lenet("tanh", "mean"), lenet(width=4), lenet(side=112), vgg()):
        rival.build(Case(network, 2, 2))
        assert rival.network.output_shape(network.input_shape) == (10,)
        sizes[network.name] = rival.network.parameter_count
    assert sizes["LeNet-5, ReLU, max"] == sizes["LeNet-5, Tanh, mean"] == lenet5().parameter_count
    assert sizes["LeNet-5 x4, ReLU, max"] > 14 * lenet5().parameter_count


def test_targets_say_what_is_reached_and_how_much_is_missing():
    rates = {
        training.OURS: [80, 60, 70],
        training.PLAIN: [10, 10, 10],
        training.TUNED: [20, 20, 20],
    }
    rates |= {training.OURS_ALONE: [40, 40, 40], training.PLAIN_ALONE: [5, 5, 5]}
    rows = [{"network": "LeNet-5", "batch_size": 64, "images_per_second": rates}]
    startup = {"warm": [{"seconds": 2.0}], "import_all": [0.4], "cold": {"seconds": 6.0}}
    peak = {"peak": {"1": [1.0], "2": [70 * targets.STEP_FLOP / 1e9]}, "layers": {}}
    found = targets.find({"training": {"rows": rows}, "startup": startup, "kernels": peak})
    verdicts = {target.what: target.verdict for target in found}
    assert verdicts["training, LeNet-5, batch 64: times plain PyTorch"] == "reached"
    assert verdicts["training, LeNet-5, batch 64: times tuned PyTorch"] == "22% short"
    assert verdicts["first step, warm cache"] == "100% too much"
    assert verdicts["first step, cold cache"] == "reached"
    [step] = [target for target in found if "fma limit" in target.what]
    assert math.isclose(step.measured, 1)


def test_a_pass_too_short_to_tell_has_no_figure():
    speeds = {"forward": [90.0, 110.0], "dweight": [50.0, None], "dx": [None, None]}
    layers = {"C3": {"1": speeds, "2": speeds}}
    result = {"peak": {"1": [100.0, 99.0], "2": [200.0, 190.0]}, "layers": layers}
    assert kernels.shares(result, "C3", "dweight", 1) == [0.5]
    assert [target.measured for target in targets.find({"kernels": result})] == [1.0, 0.5]
    last = kernels.report(result).splitlines()[-1]
    assert [cell.strip() for cell in last.split("|")[3:7]] == ["-"] * 4


def test_a_difference_of_times_below_zero_is_no_speed(monkeypatch):
    times = [[0.002], [0.004], [0.003]]
    monkeypatch.setattr(selftest, "call_times", lambda calls, seconds: times)
    speeds = kernels.Kernels().speeds(0.01, "output: dense, 84 -> 10")
    assert speeds["forward"] == pytest.approx(2 * speeds["dweight"])
    assert speeds["dx"] is None
