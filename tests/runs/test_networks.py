"""Several networks under one configuration: its errors, a whole comparison, and one that was stopped."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from minicnn import load
from minicnn.cli import main
from minicnn.config.build import build_network, find_spec
from minicnn.config.comparison import Comparison
from minicnn.config.settings import dump_settings, load_settings, load_tree
from minicnn.errors import ConfigError, MinicnnError
from minicnn.inspect.plots.figures import _apart, plot_comparison
from minicnn.layers import LocallyConnected2d
from minicnn.runs import networks
from minicnn.training.process_group import ProcessGroup
from minicnn.training.trainer import Trainer

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG = """\
networks:
  dense:
    layers: [Flatten, {Dense: {out_features: 10}}]
  local:
    init: lecun
    layers:
      - LocallyConnected2d: {out_channels: 3, kernel_size: 3, stride: 4}
      - Flatten
      - Dense: {out_features: 10}
data:
  name: mnist-subset
optimizer:
  lr: 0.02
  momentum: 0.9
training:
  epochs: 2
  batch_size: 100
  threads: 1
output:
  pictures: false
  lint: false
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with small.yaml in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(CONFIG)
    return tmp_path


def the_folder(here: Path) -> Path:
    [folder] = (here / "runs").iterdir()
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def figures(folder: Path) -> list[dict[str, str]]:
    """The comparison without its times."""
    return [
        {key: value for key, value in row.items() if key != "seconds"} for row in rows_of(folder / "comparison.csv")
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder of a finished comparison, standard output)"""
    here = tmp_path_factory.mktemp("comparison")
    (here / "small.yaml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        said: list[str] = []
        for module in ("runs.networks", "runs.run", "training.callbacks.console"):
            patch.setattr(f"minicnn.{module}.info", said.append)
        assert main(["train", "small.yaml", "output.pictures=true"]) == 0
    return the_folder(here), "\n".join(said)


# ---- a whole comparison


def test_each_network_has_a_run_folder_of_its_own(finished):
    folder, _ = finished
    assert re.fullmatch(r"small-\d{8}-\d{6}", folder.name)
    assert {path.name for path in folder.iterdir()} == {
        *("dense", "local", "config.yaml", "comparison.csv", "comparison.png")
    }
    for name in ("dense", "local"):
        settings = load_settings(folder / name / "config.yaml")
        assert settings == Comparison.of(load_tree(folder / "config.yaml")).settings[name]
        assert len(load(folder / name).network) == len(settings.network.layers)


def test_the_table_has_sizes_costs_and_results(finished):
    folder, out = finished
    dense, local = rows_of(folder / "comparison.csv")
    assert list(dense) == [
        *("network", "parameters", "multiply_adds", "connections"),
        *("test_accuracy", "final_train_accuracy", "epochs", "seconds"),
    ]
    assert [dense[key] for key in list(dense)[:4]] == ["dense", "7850", "7840", "7850"]
    outputs = 3 * 7 * 7
    counts = [outputs * 10 + 1480, outputs * 9 + 1470, outputs * 10 + 1480]
    assert [local[key] for key in list(local)[:4]] == ["local", *map(str, counts)]
    for row in (dense, local):
        metrics = rows_of(folder / row["network"] / "metrics.csv")
        assert row["epochs"] == str(len(metrics)) == "2"
        assert float(row["test_accuracy"]) == float(metrics[-1]["test_accuracy"]) > 0.8
        # Of the trained network on all images; in metrics.csv, the network still learns on the way.
        assert float(metrics[0]["train_accuracy"]) < float(row["final_train_accuracy"]) < 1
        seconds = sum(float(t["seconds"]) for t in rows_of(folder / row["network"] / "timings.csv"))
        assert float(row["seconds"]) == pytest.approx(seconds, abs=1e-3)
    lines = out.splitlines()
    assert lines[-1] == str(Path("runs") / folder.name)
    assert [line.partition(" ")[0].strip("-") for line in lines[-6:-2]] == [*("network", "", "dense", "local")]
    assert f"{float(local['test_accuracy']):.2%}" in lines[-3]


def test_accuracy_on_the_training_images_is_that_of_the_saved_model(finished):
    from minicnn import load_dataset

    folder, _ = finished
    data = load_dataset("mnist-subset")
    for row in rows_of(folder / "comparison.csv"):
        right = load(folder / row["network"]).predict(data.train_images) == data.train_labels
        assert float(row["final_train_accuracy"]) == right.mean()


def test_the_picture_of_all_networks_is_drawn(finished):
    with Image.open(finished[0] / "comparison.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 10


def test_the_configuration_in_the_folder_gives_the_same_comparison_again(finished, here):
    folder, _ = finished
    assert main(["train", str(folder / "config.yaml"), "output.pictures=false"]) == 0
    again = the_folder(here)
    assert again.name.startswith("small-")
    assert figures(again) == figures(folder)


# ---- without training


def test_print_config_prints_what_gives_the_same_comparison(here, capsys):
    assert main(["train", "small.yaml", "training.epochs=7", "--print-config"]) == 0
    text = capsys.readouterr().out
    assert "    - Dense: {out_features: 10}" in text
    assert Comparison.of(yaml.safe_load(text)) == Comparison.of(load_tree("small.yaml", ["training.epochs=7"]))


@pytest.mark.parametrize("flag", ["--dry-run", "--check-gradients"])
def test_rehearsals_are_of_each_network(here, capsys, flag):
    both = "networks.local.layers=[Flatten, {Dense: {out_features: 10}}]"
    assert main(["train", "small.yaml", both, flag]) == 0
    out = capsys.readouterr().out
    headings = [line for line in out.splitlines() if line.startswith("== ")]
    assert headings == ["== dense, network 1 of 2 ==", "== local, network 2 of 2 =="]
    word = "the whole run" if flag == "--dry-run" else "weight"
    assert [word in part for part in out.split("== local")] == [True, True]
    assert not (here / "runs").exists()


def test_summary_shows_each_network(here, capsys):
    assert main(["summary", "small.yaml"]) == 0
    out = capsys.readouterr().out
    assert "== dense, network 1 of 2 ==" in out
    assert "LocallyConnected2d" in out.partition("== local, network 2 of 2 ==")[2]
    assert main(["summary", "small.yaml", "--json"]) == 2
    assert "--json: expected a single network" in capsys.readouterr().err


def test_a_network_that_is_null_is_left_out(here):
    comparison = Comparison.of(load_tree("small.yaml", ["networks.dense=null"]))
    assert list(comparison.settings) == ["local"]


WRONG = {
    "networks=null": "networks: expected names, each with the init and layers of a network, received null",
    "networks=[ReLU]": 'networks: expected names, each with the init and layers of a network, received ["ReLU"]',
    "networks={a b: {layers: [ReLU]}}": 'networks: expected names of letters, digits, - and _, received "a b"',
    "networks={../a: {layers: [ReLU]}}": 'networks: expected names of letters, digits, - and _, received "../a"',
    "network={layers: [ReLU]}": "network: expected either it or networks, received both",
    "networks.local=3": "networks.local: expected a group of keys, received 3",
    "networks.local.layers=[]": "networks.local.layers: expected 1 or more items, received []",
    "networks.local.inti=uniform": "networks.local.inti: unknown key; did you mean init?",
    "optimizer.lr=-1": "optimizer.lr: expected a number greater than 0, received -1",
    "networks.local.layers.0=Dens": "networks.local.layers.0: unknown layer Dens; did you mean Dense?",
    "networks.local.layers.2.Dense.out_features=9": "networks.local.layers.2.Dense: expected an output of "
    "shape (10,), a number for each class of mnist-subset, received (9,)",
    "training.threads=1000": "training.threads: expected at most",
}


@pytest.mark.parametrize("flag", [(), ("--dry-run",)])
@pytest.mark.parametrize("override", WRONG)
def test_what_is_wrong_is_named_once_before_any_training(here, capsys, override, flag):
    assert main(["train", "small.yaml", override, *flag]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"error: {WRONG[override]}")
    assert err.count("\n") == 1
    assert "epoch 1" not in out
    assert not (here / "runs").exists()


def test_a_command_for_one_network_says_so(here):
    with pytest.raises(ConfigError, match=r"small\.yaml: expected one network, received networks"):
        load_settings("small.yaml")


def test_several_processes_are_refused(here):
    group = ProcessGroup()
    group.world_size = 2
    with pytest.raises(ConfigError, match="expected a single network under torchrun, received 2"):
        networks.train_comparison(Comparison.of(load_tree("small.yaml")), "small", group)
    assert not (here / "runs").exists()


# ---- stopped, and resumed


def test_a_comparison_that_was_stopped_ends_like_one_that_was_not(finished, here, capsys, monkeypatch):
    """Stopped once within the second network, once before its first checkpoint."""

    def stopped(trainer):
        return isinstance(trainer.network[0], LocallyConnected2d) and trainer.progress.step >= 130

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "interrupted", property(stopped))
        assert main(["train", "small.yaml"]) == 130
    folder = the_folder(here)
    out = capsys.readouterr().out
    assert out.endswith(f"to go on with all networks: minicnn train --resume runs/{folder.name}\n")
    assert not (folder / "comparison.csv").exists()

    assert main(["train", "--resume", str(folder)]) == 0
    out = capsys.readouterr().out
    assert f"{folder / 'dense'}: done before" in out
    assert "resumed after step 130" in out
    assert figures(folder) == figures(finished[0])

    (folder / "comparison.csv").unlink()
    for path in (folder / "local" / "checkpoints").iterdir():
        path.unlink()
    assert main(["train", "--resume", str(folder)]) == 0
    assert figures(folder) == figures(finished[0])


def test_all_networks_go_on_for_more_epochs_but_not_as_others(here, capsys):
    assert main(["train", "small.yaml", "training.epochs=1"]) == 0
    folder = the_folder(here)
    before = (folder / "config.yaml").read_text()
    for override, message in {
        "data.name=mnist": "data.name: expected",
        "networks.dense.init=uniform": "networks: expected those of the run so far",
        "network.init=uniform": "networks: expected those of the run so far",
    }.items():
        capsys.readouterr()
        assert main(["train", "--resume", str(folder), override]) == 2
        assert capsys.readouterr().err.startswith(f"error: {message}")
        assert (folder / "config.yaml").read_text() == before
    assert main(["train", "--resume", str(folder), "training.epochs=2"]) == 0
    assert [row["epochs"] for row in rows_of(folder / "comparison.csv")] == ["2", "2"]
    assert "epochs: 2" in (folder / "config.yaml").read_text()


def test_new_settings_reach_networks_that_a_stopped_resumption_did_not_come_to(here, capsys, monkeypatch):
    assert main(["train", "small.yaml", "training.epochs=1"]) == 0
    folder = the_folder(here)

    def stopped(trainer):
        return trainer.progress.step >= 130

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "interrupted", property(stopped))
        assert main(["train", "--resume", str(folder), "training.epochs=2"]) == 130
    assert "epochs: 1" in (folder / "local" / "config.yaml").read_text()
    assert main(["train", "--resume", str(folder)]) == 0
    assert [row["epochs"] for row in rows_of(folder / "comparison.csv")] == ["2", "2"]
    capsys.readouterr()
    assert main(["train", "--resume", str(folder), "training.epochs=2"]) == 0
    assert capsys.readouterr().out.count(": done before") == 2


@pytest.mark.parametrize(("failing", "stays"), [("dense", False), ("local", True)])
def test_a_folder_stays_as_soon_as_there_is_a_trained_network_in_it(here, capsys, monkeypatch, failing, stays):
    real = networks.train

    def train(settings, name, **options):
        if name == failing:
            raise MinicnnError("no luck")
        return real(settings, name, **options)

    monkeypatch.setattr(networks, "train", train)
    assert main(["train", "small.yaml", "training.epochs=1"]) == 1
    assert capsys.readouterr().err == "error: no luck\n"
    assert len(list((here / "runs").iterdir())) == stays


# ---- the shipped one, and the picture


def test_local_compares_networks_of_one_shape_with_the_counts_in_its_comments():
    path = CONFIGS / "local.yaml"
    comparison = Comparison.of(load_tree(path))
    lines = [line for line in path.read_text().splitlines() if line.startswith("      - ")]
    hidden, counts = {}, {}
    for name, settings in comparison.settings.items():
        network = build_network(settings)
        shape = find_spec(settings.data).input_shape
        hidden[name] = [int(np.prod(s)) for s in network.shapes(shape)[1:] if np.prod(s) in (1176, 400)]
        counts[name] = (network.parameter_count, network.multiply_adds(shape), network.connections(shape))
        for layer, output_shape in zip(network, network.shapes(shape)[1:], strict=True):
            comment = lines.pop(0).partition("#")[2]
            size = sum(parameter.value.size for parameter in layer.parameters())
            if comment:
                assert str(output_shape) in comment
                assert comment.endswith(f" {size:,}" if size else ")")
    assert not lines
    assert set(hidden["dense"]) == set(hidden["local"]) == set(hidden["conv"])
    assert counts["local"][1:] == counts["conv"][1:] == (93_400, 94_986)
    assert counts["local"][0] == 94_986
    assert counts["conv"][0] == 6_582


def test_the_shipped_comparison_survives_a_round_trip():
    comparison = Comparison.of(load_tree(CONFIGS / "local.yaml"))
    assert Comparison.of(yaml.safe_load(comparison.dump())) == comparison


def test_the_settings_of_a_network_differ_in_the_network_only():
    settings = Comparison.of(load_tree(CONFIGS / "local.yaml")).settings
    dumps = {dump_settings(one).partition("\ndata:")[2] for one in settings.values()}
    assert len(dumps) == 1


def test_names_at_the_ends_of_curves_are_kept_apart():
    assert _apart([0.1, 0.5], 0.2) == pytest.approx([0.1, 0.5])
    assert _apart([0.4, 0.5], 0.2) == pytest.approx([0.35, 0.55])
    assert _apart([0.4, 0.5, 0.6], 0.2) == pytest.approx([0.3, 0.5, 0.7])
    assert _apart([0.2, 0.3, 0.9], 0.2) == pytest.approx([0.15, 0.35, 0.9])
    assert len(_apart([], 0.2)) == 0


def test_networks_may_have_trained_for_different_numbers_of_epochs(tmp_path):
    metrics = {
        name: [
            {"epoch": n + 1, "train_accuracy": 0.9, "validation_accuracy": 0.8, "validation_loss": 1}
            for n in range(epochs)
        ]
        for name, epochs in (("one", 3), ("two", 1), ("none", 0))
    }
    plot_comparison(tmp_path / "c.png", metrics)
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.size == (1575, 690)
