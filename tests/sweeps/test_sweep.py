"""Whole sweeps: equal bits, failed runs, halving, tables, the best settings, the Python function, mistakes."""

import csv
import json
from pathlib import Path

import pytest
from small_sweep import CONFIG, figures, rows_of, the_sweep, trained, without_times

import minicnn
from minicnn.cli import main
from minicnn.config.settings import load_settings
from minicnn.errors import MinicnnError
from minicnn.inspect.plots.sweeps import plot_sweep
from minicnn.sweeps.plan import Plan
from minicnn.sweeps.results import Results, settings_table, spread
from minicnn.sweeps.worker import Outcome, Task, work
from minicnn.training import trainer

GRID = ("optimizer.lr=0.01,0.1,1e300", "training.seed=0..1")


def sweep(*words: str, jobs: str = "2") -> int:
    return main(["sweep", "small.yaml", *words, "--jobs", jobs])


def hash_of(here: Path, *overrides: str) -> str:
    folder = here / f"run-{'-'.join(overrides)}"
    folder.mkdir()
    return trained(load_settings("small.yaml", overrides), folder)


def test_a_grid(here, capsys):
    """Each run has the bits of `minicnn train`; a diverged one is a row that says so; best.yaml trains the best."""
    assert sweep(*GRID, "output.pictures=true") == 0
    out, err = capsys.readouterr()
    folder = the_sweep(here)
    rows = rows_of(folder)
    figures = ["accuracy", "balanced_accuracy", "macro_f1", "loss", "seconds"]
    assert list(rows[0]) == ["run", "optimizer.lr", "training.seed", "epochs", *figures, "weights", "error"]
    assert [(row["run"], row["optimizer.lr"], row["training.seed"], row["epochs"]) for row in rows] == [
        (str(2 * i + j + 1), lr, str(j), "4") for i, lr in enumerate(("0.01", "0.1", "1e+300")) for j in range(2)
    ]
    for row in rows[:4]:
        overrides = [f"{key}={row[key]}" for key in ("optimizer.lr", "training.seed")]
        assert row["weights"] == hash_of(here, *overrides)
        assert row["error"] == ""
        assert float(row["seconds"]) > 0
    for row in rows[4:]:
        assert row["error"].startswith("step ")
        assert "received NaN or infinity" in row["error"]
        assert row["accuracy"] == row["loss"] == row["weights"] == row["seconds"] == ""
    means = [(float(a["accuracy"]) + float(b["accuracy"])) / 2 for a, b in (rows[:2], rows[2:4])]
    winner = ("0.01", "0.1")[means[1] > means[0]]
    assert load_settings(folder / "best.yaml") == load_settings(
        "small.yaml", [f"optimizer.lr={winner}", "output.pictures=true"]
    )
    lines = out.splitlines()
    [top] = [number for number, line in enumerate(lines) if line.startswith("optimizer.lr  n")]
    assert lines[top].split() == ["optimizer.lr", "n", "failed", "test", "accuracy", "std", "sem", "best"]
    assert lines[top + 2].split()[:4] == [winner, "2", "0", f"{max(means):.3%}"]
    assert lines[top + 4].split() == ["1e+300", "0", "2", "-", "-", "-", "-"]
    assert "warning: data.validation: the test images choose the best setting" in err
    assert "warning: run 5 (optimizer.lr=1e+300 training.seed=0)" in err
    assert (folder / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in folder.iterdir()} == {"sweep.json", "sweep.csv", "best.yaml", "accuracy.png"}


def test_halving_goes_on_from_checkpoints_to_the_bits_of_whole_runs(here, capsys):
    words = ("optimizer.lr=0.02,0.05,0.1,1e300", "training.seed=3,5", "data.validation=0.2")
    assert sweep(*words, "--halving", "2", jobs="1") == 0
    assert "warning: data" not in capsys.readouterr().err
    folder = the_sweep(here)
    rows = rows_of(folder)
    assert [(row["epochs"], len(row["accuracy"]) > 0) for row in rows] == [
        *(("1", True) for _ in range(6)),
        *(("1", False) for _ in range(2)),
        *(("2", True) for _ in range(4)),
        *(("4", True) for _ in range(2)),
    ]
    for epochs in ("1", "2"):  # who goes on is better than who does not
        mean: dict[str, float] = {}
        for row in rows:
            if row["epochs"] == epochs:
                mean[row["optimizer.lr"]] = mean.get(row["optimizer.lr"], 0) + float(row["accuracy"] or 0)
        later = {row["optimizer.lr"] for row in rows if row["epochs"] == str(2 * int(epochs))}
        assert len(later) == len(mean) / 2
        assert min(mean[lr] for lr in later) >= max(mean[lr] for lr in mean.keys() - later)
    for row in rows[-2:]:
        overrides = [f"{key}={row[key]}" for key in ("optimizer.lr", "training.seed")]
        assert row["weights"] == hash_of(here, "data.validation=0.2", *overrides)
    assert not (folder / "checkpoints").exists()


def test_a_run_that_failed_stays_so_in_later_rungs(here):
    """Its setting goes on if it is good enough all the same."""
    words = ("optimizer.lr=0.05,1e300", "training.seed=0,1", "--halving", "2")
    assert sweep(*words) == 0
    path = the_sweep(here) / "sweep.csv"
    lines = path.read_text().splitlines()
    head, good = lines[0], lines[2].split(",")
    failed = ",".join([*good[:4], *[""] * 6, "out of memory"])
    path.write_text("\n".join([head, lines[1], failed, *lines[3:5], ""]))
    assert main(["sweep", "--resume", str(path.parent)]) == 0
    rows = rows_of(path.parent)
    assert [row["error"] for row in rows if row["run"] == "2"] == ["out of memory"] * 2
    assert [row["epochs"] for row in rows if row["run"] == "1"] == ["2", "4"]


def test_a_checkpoint_saves_the_steps_before_it(here, monkeypatch):
    tree = load_settings("small.yaml").model_dump(mode="json")
    steps = []
    step = trainer.accumulated_step
    monkeypatch.setattr(trainer, "accumulated_step", lambda *a, **options: steps.append(1) or step(*a, **options))
    [first] = work([Task(1, tree, 1, keep=True)])
    assert len(steps) == 4  # 200 images in batches of 50
    [rest] = work([Task(1, tree, 4, first.checkpoint)])
    assert len(steps) == 4 + 3 * 2  # of half of the images
    [whole] = work([Task(1, tree, 4)])
    assert rest.figures["weights"] == whole.figures["weights"] != first.figures["weights"]


def test_a_checkpoint_knows_the_best_epoch_before_it(here):
    tree = load_settings("small.yaml", ["optimizer.lr=0.5", "training.ema=null"]).model_dump(mode="json")
    [first] = work([Task(1, tree, 1, keep=True)])
    [rest] = work([Task(1, tree, 4, first.checkpoint)])
    [whole] = work([Task(1, tree, 4)])
    assert rest.figures["weights"] == whole.figures["weights"] == first.figures["weights"]


def test_a_failed_run_counts_as_0_in_the_order(here):
    plan = Plan("small", ["a"], [{"a": 1}, {"a": 2}, {"a": 3}], [0, 7], None, {})
    results = Results(here / "sweep.csv", plan)
    for run, accuracy in enumerate((0.9, None, 0.6, 0.6, None, None), 1):
        results.add(Outcome(Task(run, {}, 4), {} if accuracy is None else {"accuracy": accuracy}))
    assert [(row["a"], row["n"], row["failed"]) for row in results.settings()] == [(2, 2, 0), (1, 1, 1), (3, 0, 2)]


def test_figures_that_count_all_classes_alike(here):
    plan = Plan("small", ["a"], [{"a": 1}, {"a": 2}], [0], None, {})
    results = Results(here / "sweep.csv", plan)
    for run, balanced in ((1, 0.7), (2, 0.25)):
        results.add(Outcome(Task(run, {}, 4), {"accuracy": 0.7, "balanced_accuracy": balanced, "macro_f1": 0.7}))
    uneven = settings_table(results.settings(), ["a"], "test")
    assert uneven.splitlines()[0].endswith("best  balanced accuracy  macro F1")
    assert uneven.splitlines()[-1].split()[-2:] == ["25.000%", "70.000%"]
    assert "balanced" not in settings_table(results.settings()[:1], ["a"], "test")
    old = [
        ",".join(line.split(",")[:5] + line.split(",")[7:]) for line in (here / "sweep.csv").read_text().splitlines()
    ]
    (here / "old.csv").write_text("\n".join(old) + "\n")  # of a version without them
    [row, _] = Results(here / "old.csv", plan).rows.values()
    assert (row["accuracy"], row["macro_f1"]) == (0.7, None)


def test_random_settings_with_seeds(here):
    words = ("optimizer.lr=log:0.001..0.3", "augmentation.shift=0..3", "training.epochs=1")
    assert sweep(*words, "--samples", "3", "--seeds", "2") == 0
    rows = rows_of(the_sweep(here))
    assert [row["training.seed"] for row in rows] == ["0", "1"] * 3
    settings = {(row["optimizer.lr"], row["augmentation.shift"]) for row in rows}
    assert len(settings) == 3
    assert all(0.001 <= float(lr) <= 0.3 and shift in "0123" for lr, shift in settings)


def test_the_function(here):
    varied = {"optimizer.lr": [0.01, 0.05], "network.layers.2": ["ReLU", {"LeakyReLU": {"negative_slope": 0.1}}]}
    rows = minicnn.sweep("small.yaml", varied, seeds=range(2), jobs=2, verbose=False)
    assert len(rows) == 8
    assert rows[-1].keys() >= {"run", "optimizer.lr", "network.layers.2", "training.seed", "accuracy", "weights"}
    assert rows[-1]["network.layers.2"] == {"LeakyReLU": {"negative_slope": 0.1}}
    written = rows_of(the_sweep(here))
    for row, texts in zip(rows, written, strict=True):
        assert [row["optimizer.lr"], row["accuracy"], row["weights"]] == [
            float(texts["optimizer.lr"]),
            float(texts["accuracy"]),
            texts["weights"],
        ]
    assert json.loads(written[-1]["network.layers.2"]) == rows[-1]["network.layers.2"]
    settings = load_settings("small.yaml")
    alone = minicnn.sweep(settings, {}, seeds=[1], jobs=1, verbose=False)
    assert alone[0]["weights"] == rows[5]["weights"]  # of lr 0.05, ReLU, seed 1
    tree = settings.model_dump(mode="json")
    assert figures(minicnn.sweep(tree, {}, seeds=[1], jobs=1, verbose=False)) == figures(alone)


def test_a_sweep_that_is_done_is_only_told_again(here, capsys):
    assert sweep("optimizer.lr=0.01,0.1", "training.epochs=1") == 0
    table = capsys.readouterr().out.split("\n\n")[1]
    folder = the_sweep(here)
    before = (folder / "sweep.csv").read_bytes()
    assert main(["sweep", "--resume", str(folder)]) == 0
    assert capsys.readouterr().out.split("\n\n")[1] == table
    assert (folder / "sweep.csv").read_bytes() == before


def test_all_runs_fail(here, capsys):
    assert sweep("optimizer.lr=1e300,1e301") == 1
    assert "expected a run that does not fail, all 2 have failed" in capsys.readouterr().err


def test_what_ends_a_training_is_a_row(here, monkeypatch):
    """Whatever it is, on one line."""

    def fail(*_: object, **more: object) -> None:
        raise MemoryError("no\nroom")

    monkeypatch.setattr("minicnn.sweeps.worker.Experiment", fail)
    plan = Plan("small", [], [{}], [0], None, load_settings("small.yaml").model_dump(mode="json"))
    [outcome] = work([Task(1, plan.tree, 4)])
    results = Results(here / "sweep.csv", plan)
    assert results.add(outcome)["error"] == "MemoryError: no room"
    assert Results(here / "sweep.csv", plan).rows == results.rows


def test_rows_survive_a_kill_at_any_byte(here):
    plan = Plan("small", ["a"], [{"a": 'x, "y"'}, {"a": None}, {"a": 1.5}], [0, 7], None, {})
    whole = Results(here / "whole.csv", plan)
    for run in range(1, 7):
        done = {"accuracy": run / 7, "loss": 1e-17, "seconds": 0.5, "weights": "00e1"}
        whole.add(Outcome(Task(run, {}, 4), done if run != 3 else {}, "" if run != 3 else 'lost, "why"'))
    content = (here / "whole.csv").read_bytes()
    for end in [*range(0, len(content), 5), len(content)]:
        (here / "cut.csv").write_bytes(content[:end])
        cut = Results(here / "cut.csv", plan)
        assert len(cut.rows) == max(0, content[:end].count(b"\n") - 1)
        assert cut.rows.items() <= whole.rows.items()
        for run in range(len(cut.rows) + 1, 7):
            row = whole.rows[4, run]
            cut.add(Outcome(Task(run, {}, 4), row if row["accuracy"] else {}, row["error"]))
        cut.sort()
        assert (here / "cut.csv").read_bytes() == content
    (here / "cut.csv").write_text("run,accuracy\n1,0.5\n")
    with pytest.raises(MinicnnError, match="expected the rows of this sweep"):
        Results(here / "cut.csv", plan)


def test_spread():
    found = spread([0.5, 0.7, None, 0.9])
    assert found == {
        "mean": pytest.approx(0.7),
        "std": pytest.approx(0.2),
        "sem": pytest.approx(0.2 / 3**0.5),
        "n": 3,
        "best": 0.9,
        "failed": 1,
    }
    assert spread([None]) == {"mean": None, "std": None, "sem": None, "n": 0, "best": None, "failed": 1}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optimizer.rate=1,2"], "optimizer.rate: unknown key"),
        (["optimizer.lr=0.1,no"], "optimizer.lr=no: optimizer.lr: expected a number"),
        (["network.layers.5={Dense: {out_features: 10}},ReLU"], "network.layers.5.ReLU: expected an output of shape"),
        (["optimizer.lr=0.1..0.2"], "--samples N draws from such a range"),
        (["optimizer.lr=1,2", "--samples", "0"], "--samples: expected at least 1, received 0"),
        (["--samples", "3"], "--samples: expected settings to draw"),
        (["--seeds", "0"], "--seeds: expected at least 1, received 0"),
        (["training.seed=1,2", "--seeds", "3"], "training.seed: expected either it or --seeds, received both"),
        (["training.seed=1,1"], "training.seed: expected different seeds"),
        (["training.seed=-1,1"], "training.seed: expected a number of at least 0"),
        (["optimizer.lr=1,2,3", "--halving", "1"], "--halving: expected at least 2, received 1"),
        (["optimizer.lr=1,2,3", "--halving", "5"], "--halving: expected at least 5 settings and 5 epochs, received 3"),
        (["training.epochs=1..4", "--halving", "2"], "training.epochs: expected one number with --halving"),
        (["optimizer.lr=1,2", "--jobs", "0"], "--jobs: expected at least 1, received 0"),
        (["optimizer.lr=1,2", "--backend", "spark"], "--backend: expected local, dask://HOST:PORT"),
        (["optimizer.lr=1,2", "--backend", "dask://"], "--backend: expected local"),
        (["--resume", "nowhere"], "--resume: expected no settings, as a sweep goes on with its own, received small"),
    ],
)
def test_mistakes(here, capsys, words, message):
    assert main(["sweep", "small.yaml", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert not list(here.glob("runs/*"))


def test_mistakes_without_a_config(here, capsys):
    assert main(["sweep"]) == 2
    assert main(["sweep", "--resume", "images"]) == 2
    (here / "both.yaml").write_text(CONFIG.replace("network:", "networks:\n  a:", 1))
    assert main(["sweep", "both.yaml", "optimizer.lr=1,2"]) == 2
    errors = capsys.readouterr().err
    assert "expected CONFIG or --resume SWEEP" in errors
    assert "images: expected the folder of a sweep, with sweep.json in it" in errors
    assert "networks: expected a single network to sweep" in errors


def test_a_package_that_is_missing(here, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "loky", None)
    assert sweep("optimizer.lr=1,2") == 2
    assert "expected the package loky, it is not installed: python -m pip install loky" in (capsys.readouterr().err)
    assert not list(here.glob("runs/*"))


@pytest.mark.parametrize("keys", [[], ["lr"], ["lr", "name"], list("abcdefghijklmn")])
def test_pictures(tmp_path, keys):
    rows = [
        {
            **dict.fromkeys(keys, 1),
            "lr": 10.0 ** -(i % 4),
            "name": [None, "relu", {"x": 1}][i % 3],
            "accuracy": None if i == 3 else 0.9 + 0.01 * (i % 5),
        }
        for i in range(24)
    ]
    for some in (rows, rows[:1]):
        plot_sweep(tmp_path / "a.png", some, keys, "validation")
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
        (tmp_path / "a.png").unlink()


def test_the_csv_is_one_that_others_read(here):
    plan = Plan("small", ["a"], [{"a": {"b": [1, 2]}}], [0], None, {})
    Results(here / "sweep.csv", plan).add(Outcome(Task(1, {}, 4), {}, "a, b"))
    [row] = csv.DictReader((here / "sweep.csv").read_text().splitlines())
    assert (json.loads(row["a"]), row["error"]) == ({"b": [1, 2]}, "a, b")
    assert without_times(here) == [{key: value for key, value in row.items() if key != "seconds"}]
