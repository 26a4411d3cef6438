"""`minicnn compare`: existing runs in a table and a picture."""

from pathlib import Path

import pytest

from minicnn import load
from minicnn.cli import main
from minicnn.model import weights_hash

CONFIG = """\
network:
  layers: [Flatten, {Dense: {out_features: 10}}]
data: {name: mnist-subset}
optimizer: {lr: 0.01}
training: {epochs: 1, batch_size: 500, threads: 1}
output: {pictures: false, lint: false}
"""


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(CONFIG)
    for overrides in ([], ["optimizer.lr=0.05", "training.epochs=2"], ["data.validation=0.2", "output.dir=others"]):
        assert main(["train", "small.yaml", *overrides]) == 0
    capsys.readouterr()
    found = [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.glob("*/small-*"))]
    return sorted(found, key=lambda run: (run.startswith("runs"), run), reverse=True)


def test_a_table_and_a_picture(runs, capsys):
    later, first, _ = runs
    assert main(["compare", first, later, "--out", "both.png"]) == 0
    head, _, one, two, picture = capsys.readouterr().out.splitlines()
    columns = ["#", "run", "optimizer.lr", "training.epochs", "parameters", "epochs", "test", "accuracy", "best"]
    assert head.split() == [*columns, "loss", "seconds", "weights"]
    for line, number, run, lr, epochs in ((one, "1", first, "0.01", "1"), (two, "2", later, "0.05", "2")):
        cells = line.split()
        assert cells[:6] == [number, run, lr, epochs, "7,850", epochs]
        rows = (Path(run) / "metrics.csv").read_text().splitlines()
        accuracies = [float(row.split(",")[6]) for row in rows[1:]]
        assert cells[6:8] == [f"{accuracies[-1]:.2%}", f"{max(accuracies):.2%}"]
        assert cells[-1] == weights_hash(load(run).network)
    assert picture == "both.png"
    assert Path("both.png").read_bytes().startswith(b"\x89PNG")


def test_uneven_classes_show_figures_that_count_all_alike(runs, capsys):
    run = Path(runs[0])
    head, *rows = (line.split(",") for line in (run / "metrics.csv").read_text().splitlines())
    rows[-1][head.index("test_balanced_accuracy")] = "0.25"
    (run / "metrics.csv").write_text("".join(",".join(line) + "\n" for line in (head, *rows)))
    assert main(["compare", str(run)]) == 0
    first, _, line, _ = capsys.readouterr().out.splitlines()
    assert "best  balanced accuracy  macro F1    loss" in first
    assert "  25.00%  " in line


def test_runs_that_were_evaluated_on_other_images(runs, capsys):
    assert main(["compare", *runs]) == 0
    out, err = capsys.readouterr()
    assert "data.validation" in out.splitlines()[0]
    assert "held-out accuracy" in out.splitlines()[0]
    assert err == "warning: no picture: some runs were evaluated on validation images, others on test images\n"
    assert not Path("comparison.png").exists()


def test_mistakes(runs, capsys):
    Path("empty").mkdir()
    for words, message in (
        ([runs[0], "empty"], "empty/metrics.csv: expected a table"),
        ([runs[0], "--out", "no/where.png"], "--out: expected a PNG file that can be written, received no/where.png"),
    ):
        assert main(["compare", *words]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"error: {message}")
