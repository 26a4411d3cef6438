"""The benchmarks run and write what they should; nothing here depends on how fast anything is."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rival_without_framework import Arithmetic

from benchmarks import __main__ as benchmarks
from benchmarks import (
    accuracy,
    busy,
    compiling,
    harness,
    isa,
    kernels,
    results,
    rivals,
    speedrun,
    startup,
    targets,
    textbook,
    training,
)
from benchmarks.networks import Case, Dense, Network, lenet, vgg
from minicnn.inspect import selftest
from minicnn.zoo import lenet5


@pytest.fixture
def one_torch_thread():
    yield
    torch.set_num_threads(1)


def test_all_benchmarks_run_and_write_tables_figures_and_plots(tmp_path, monkeypatch, one_torch_thread):
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    names = ["training", "evaluation", "textbook", "scaling", "kernels", "others"]
    benchmarks.main(["--quick", "--output", str(tmp_path), "--only", *names])
    written = json.loads((tmp_path / "RESULTS.json").read_text())
    assert written.keys() == {"native"}
    assert written["native"].keys() == {"machine", "quick", "parts"}
    parts = written["native"]["parts"]
    assert list(parts) == names
    assert all(part.keys() == {"date", "load_before", "minutes", "result"} for part in parts.values())
    found = {name: part["result"] for name, part in parts.items()}
    [row] = found["training"]["rows"]
    assert row["same_bits_again"]
    assert row["same_bits_1_and_2_threads"]
    assert [len(rounds) for rounds in row["images_per_second"].values()] == [2] * 5
    assert all(rate > 0 for rounds in row["images_per_second"].values() for rate in rounds)
    [latency] = found["evaluation"]["latency"]
    for rounds in latency["microseconds"].values():
        assert all(0 < median <= late for median, late in rounds)
    text = (tmp_path / "RESULTS.md").read_text()
    for title in (
        "To reach",
        "Training LeNet-5",
        "Evaluating LeNet-5",
        "A step on one image",
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


def test_a_worker_that_has_ended_is_made_anew_and_one_that_hangs_is_ended(monkeypatch):
    team = harness.Team()
    first = team.worker("arithmetic", Arithmetic, 1)
    with pytest.raises(SystemExit, match="arithmetic, 1 thread: the process ended in fail"):
        first.call("fail")
    second = team.worker("arithmetic", Arithmetic, 1)
    assert second is not first
    assert second is team.worker("arithmetic", Arithmetic, 1)
    assert second.call("settings")[0] == 1
    monkeypatch.setattr("benchmarks.worker.PATIENCE", 0.01)
    with pytest.raises(SystemExit, match=r"sleep\(\) took more than 0.01 s"):
        second.call("sleep", 60)
    assert not second.alive


@pytest.fixture
def haswell(monkeypatch):
    """As if this processor were one, but for one of its abilities."""
    features = dict.fromkeys(isa.HASWELL, True) | {"avx512f": True, "movbe": False}
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda: features)
    return features


def test_avx2_is_set_before_a_worker_starts(haswell):
    team = harness.Team(isa="avx2")
    worker = team.worker("arithmetic", Arithmetic, 1)
    assert worker.call("variable", "ATEN_CPU_CAPABILITY") == "avx2"
    assert worker.call("variable", "ONEDNN_MAX_CPU_ISA") == "AVX2"
    assert worker.call("variable", "NUMBA_CPU_NAME") == "haswell"
    features = worker.call("variable", "NUMBA_CPU_FEATURES").split(",")
    assert {"+avx2", "+fma", "-movbe"} <= set(features)
    assert not any("avx512" in feature for feature in features)
    assert harness.Team().environment == {}
    worker.end()


def test_a_processor_without_avx2_cannot_be_measured_with_it(haswell):
    del haswell["avx2"]
    with pytest.raises(SystemExit, match="no AVX2"):
        harness.Team(isa="avx2")


def test_the_record_program_keeps_to_avx2_too(monkeypatch, haswell):
    monkeypatch.setattr(speedrun, "measure", lambda *_: dict(os.environ))
    monkeypatch.setattr(speedrun, "report", lambda variables: variables["NUMBA_CPU_NAME"])
    for name in isa.limits("avx2"):
        monkeypatch.setenv(name, "")
    speedrun.main(["--isa", "avx2"])
    assert os.environ["NUMBA_CPU_NAME"] == "haswell"


def facts(isa="native", wide=True, **changes):
    """Of a machine."""
    versions = dict.fromkeys(("cpu", "cores", "platform", "minicnn", "numba", "numpy", "python"), "1")
    torch = {"torch": "2", "capability": "AVX512" if wide else "AVX2"}
    shown = {"isa": isa, "date": "2020-01-01", "minicnn": {**versions, "wide": wide}}
    return {**shown, "PyTorch": torch, "allocator": None, "load_before": 0.0, **changes}


STARTS = {"warm": [{"seconds": 0.5, "megabytes": 9}] * 3, "import_all": [0.4] * 3}
STARTS |= {"cold": [{"seconds": s, "megabytes": 9} for s in (7.0, 5.0, 8.0)], "import": [0.01] * 3}


def test_results_of_another_isa_are_added_and_those_of_another_machine_dropped(tmp_path):
    part = {"date": "2020-01-01", "load_before": 0.0, "minutes": 0.1, "result": STARTS}
    (tmp_path / "RESULTS.json").write_text('{"machine": {}, "minutes": 7}')  # of an older version
    everything = results.read(tmp_path)
    assert everything == {}
    results.of_machine(everything, facts("avx2", False), False)["parts"]["startup"] = part
    results.write(tmp_path, everything)
    everything = results.read(tmp_path)
    results.of_machine(everything, facts(), False)["parts"]["startup"] = {
        **part,
        "date": "2020-01-02",
        "load_before": 1.5,
    }
    results.write(tmp_path, everything)
    assert list(results.read(tmp_path)) == ["native", "avx2"]
    text = results.write_text(tmp_path, everything).read_text()
    for line in (
        "| target                                  | native: wanted | measured |              "
        "| avx2: wanted | measured |              |",
        "### Start-up, native",
        "### Start-up, avx2",
        "`python -m benchmarks.startup --isa avx2`",
        "Measured on 2020-01-02.",
        "**Other programs were running (1.5 cores busy at the start): do not quote.**",
    ):
        assert line in text.splitlines()
    again = results.of_machine(everything, facts(date="2020-01-03"), False)
    assert list(again["parts"]) == ["startup"]
    assert not results.of_machine(everything, facts(allocator="jemalloc"), False)["parts"]
    assert everything["avx2"]["parts"]


def test_what_fails_is_told_and_the_rest_survives(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks, "machine", lambda team: facts())
    monkeypatch.setattr(startup, "measure", lambda team, options: STARTS)

    def fail(team, options):
        raise ValueError("as it should")

    monkeypatch.setattr(kernels, "measure", fail)
    monkeypatch.setattr(busy, "measure", lambda team, options: sys.exit("nor this"))
    names = ["kernels", "startup", "busy"]
    with pytest.raises(SystemExit, match="failed: kernels, busy; once more: --only kernels busy"):
        benchmarks.main(["--quick", "--output", str(tmp_path), "--only", *names])
    text = (tmp_path / "RESULTS.md").read_text()
    assert "**Not measured: as it should**" in text
    assert "**Not measured: nor this**" in text
    assert "| first step, cold cache " in text
    (tmp_path / "RESULTS.md").unlink()
    benchmarks.main(["--output", str(tmp_path), "--only"])
    assert (tmp_path / "RESULTS.md").read_text() == text


def test_a_busy_machine_is_told(monkeypatch):
    ticks = iter([1000, 1000 + 3 * os.sysconf("SC_CLK_TCK")])
    monkeypatch.setattr(harness, "_busy_ticks", lambda: next(ticks))
    clock = iter([0.0, 2.0])
    monkeypatch.setattr(harness.time, "perf_counter", lambda: next(clock))
    assert harness.load(0) == 1.5
    assert "1.5 cores busy" in harness.warning(1.5)
    assert harness.warning(0.4) == harness.warning(None) == ""


@pytest.mark.skipif(len(busy.cores()) < 2, reason="no two cores to choose")
def test_one_core_is_taken_by_a_program_that_ends_with_the_measurement(capsys):
    before = os.sched_getaffinity(0)
    result = busy.measure(harness.Team(quick=True), harness.Options(2, 0.01, quick=True))
    assert os.sched_getaffinity(0) == before
    assert list(result["images_per_second"]) == [training.OURS, training.OURS_ALONE]
    assert all(len(rounds) == 2 for rounds in result["images_per_second"].values())
    assert "- 2 threads / 1: " in busy.report(result)
    [target] = targets.find({"busy": result}, True)
    assert target.measured == min(busy.two_to_one(result))
    with busy.taken(min(before)):
        pass


def test_without_affinity_no_core_is_taken(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    result = busy.measure(harness.Team(quick=True), busy.DEFAULTS)
    assert busy.report(result) == "Not measured: no two cores that can be chosen here."
    assert targets.find({"busy": result}, True) == []


def test_kernels_are_counted_in_a_process_of_its_own():
    result = compiling.measure(harness.Team(), harness.Options(1, quick=True))
    assert len(result["networks"]) == 2
    assert list(result["kinds"]) == ["BatchNorm2d"]
    for one in (*result["networks"], *result["kinds"].values()):
        assert one["kernels"] >= 0
        assert one["seconds"] > 0
    assert "| first BatchNorm2d" in compiling.report(result)


def test_start_up_is_timed_in_processes_of_its_own():
    result = startup.measure(harness.Team(), harness.Options(rounds=1, quick=True))
    for start in (*result["cold"], *result["warm"]):
        assert start["seconds"] > 0
        assert start["megabytes"] > 50
    assert min(*result["import"], *result["import_all"]) > 0
    assert "peak memory" in startup.report(result)


def test_a_start_that_fails_says_why(tmp_path):
    with pytest.raises(SystemExit, match=r"exit code (.|\n)*no_such"):
        startup.first_step(tmp_path, os.environ, ["data.name=no_such"])


def test_a_step_on_one_image_is_compared_at_the_best_number_of_threads():
    times = {training.OURS: [60.0, 50.0], training.OURS_ALONE: [50.0, 40.0]}
    times |= {training.PLAIN: [400.0, 400.0], training.PLAIN_ALONE: [200.0, 240.0]}
    result = {"network": "LeNet-5", "microseconds": times}
    assert textbook.times_faster(result) == [4.0, 6.0]
    found = targets.find({"textbook": result}, True)
    assert [(target.goal, target.value) for target in found] == [("-", "45 us"), ("-", "5.00")]


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
    found = targets.find({"accuracy": result}, False)
    assert [target.verdict for target in found] == ["0.20% short", "20% too much"]
    assert [target.goal for target in found] == [">= 99.3%", "<= 1 s"]
    assert found[0].value == "99.10%"
    assert targets.find({"accuracy": result}, True)[1].goal == "<= 0.35 s"


def test_time_to_accuracy_is_left_out_where_it_cannot_be_measured(monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "warning: x\nerror: no copy of MNIST\n")
    monkeypatch.setattr(subprocess, "run", lambda command, **options: failed)
    result = accuracy.measure(harness.Team(), harness.Options(rounds=2))
    assert accuracy.report(result) == "Not measured: error: no copy of MNIST"
    assert targets.find({"accuracy": result}, True) == []


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
    rates = {training.OURS: [80, 60, 70], training.PLAIN: [10, 10, 10], training.TUNED: [20, 20, 20]}
    rates |= {training.OURS_ALONE: [40, 40, 40], training.PLAIN_ALONE: [5, 5, 5]}
    rows = [{"network": targets.RELU, "batch_size": 64, "images_per_second": rates}]
    peak = {"peak": {"1": [1.0], "2": [70 * targets.STEP_FLOP / 1e9]}, "layers": {}}
    measured = {"training": {"rows": rows}, "startup": STARTS, "kernels": peak}
    for wide, plain, threads in ((False, "reached", "5% short"), (True, "22% short", "8% short")):
        found = {target.what: target for target in targets.find(measured, wide)}
        place = "training, LeNet-5, ReLU, max, batch 64"
        assert found[f"{place}: times plain PyTorch"].verdict == plain
        assert found[f"{place}: times tuned PyTorch"].verdict == "22% short"
        assert found[f"{place}: 2 threads / 1"].verdict == threads
    assert found[f"{place}: times plain PyTorch"].goal == ">= 9 (10)"
    assert found["first step, warm cache"].verdict == "reached"
    assert found["first step, cold cache"].verdict == "17% too much"
    assert found["first step, cold cache"].goal == "<= 6 s (3 s)"
    [step] = [target for what, target in found.items() if "fma limit" in what]
    assert math.isclose(step.measured, 1)


def test_a_pass_too_short_to_tell_has_no_figure():
    speeds = {"forward": [90.0, 110.0], "dweight": [50.0, None], "dx": [None, None]}
    layers = {"C3": {"1": speeds, "2": speeds}}
    result = {"peak": {"1": [100.0, 99.0], "2": [200.0, 190.0]}, "layers": layers}
    assert kernels.shares(result, "C3", "dweight", 1) == [0.5]
    assert [target.measured for target in targets.find({"kernels": result}, True)] == [1.0, 0.5]
    last = kernels.report(result).splitlines()[-1]
    assert [cell.strip() for cell in last.split("|")[3:7]] == ["-"] * 4


def test_a_difference_of_times_below_zero_is_no_speed(monkeypatch):
    times = [[0.002], [0.004], [0.002], [0.003]]
    monkeypatch.setattr(selftest, "call_times", lambda calls, seconds: times)
    speeds = kernels.Kernels().speeds(0.01, "output: dense, 84 -> 10")
    assert speeds["forward"] == pytest.approx(2 * speeds["dweight"])
    assert speeds["dx"] is None
