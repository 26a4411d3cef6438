"""minicnn watch: what the page of a run shows while it trains, and what its server gives to whom."""

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import Open
from small_config import small_config

from minicnn.cli import main
from minicnn.config.settings import dump_settings, load_settings
from minicnn.errors import MinicnnError
from minicnn.page.watch import GrowingTable, Server, Watch, is_training
from minicnn.training.checkpoint import Checkpoint, Checkpoints
from minicnn.training.run_folder import RunFolder

CONFIG = small_config(
    "network.layers.0.Conv2d={out_channels: 2, kernel_size: 5}", "optimizer={lr: 0.1}", "training={epochs: 3}"
)
HEAD = "epoch,step,lr,train_loss,train_accuracy,test_loss,test_accuracy\n"


class Run:
    """The folder of a run, as a training writes it."""

    def __init__(self, path: Path) -> None:
        (path / "given.yaml").write_text(CONFIG)
        self.folder = RunFolder.at(path / "run")
        self.path = self.folder.path
        settings = load_settings(path / "given.yaml")
        self.folder.write_text("config.yaml", dump_settings(settings))
        self.settings = settings

    def checkpoint(self, network: Any, step: int, ema: bool = False) -> None:
        arrays = {f"network.{name}": array for name, array in network.state_dict().items()}
        if ema:
            arrays["WeightAverage.average"] = network.values + 1
        Checkpoints(self.path).write(Checkpoint(arrays, {"progress": {"step": step}}))

    def stop(self) -> None:
        self.folder.__exit__()

    def epoch(self, number: int) -> None:
        table = self.path / "metrics.csv"
        text = table.read_text() if table.exists() else HEAD
        table.write_text(f"{text}{number},{number * 10},0.1,{1 / number},0.9,{0.5 / number},0.8\n")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    with run.folder:
        yield run


@pytest.fixture
def server(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("minicnn.page.watch.FAREWELL", 0.5)
    server = Server(Watch(run.path, run.settings))
    thread = threading.Thread(target=server.serve_to_the_end)
    thread.start()
    yield server
    run.stop()
    thread.join(20)
    assert not thread.is_alive()


def test_a_run_in_the_browser_until_it_ends(run: Run, server: Server, opened: Open) -> None:
    found = opened(server.address)
    assert "waiting for the first epoch" in found.page.inner_text("#panel-tabRun")
    network = server.watch.network
    for epoch in (1, 2):
        network.initialize(rng=epoch)
        values = network.values.copy()
        run.epoch(epoch)
        run.checkpoint(network, 10 * epoch, ema=epoch == 2)
        found.until(f"document.body.innerText.includes('epoch {epoch} of 3')")
        found.until(f"document.body.innerText.includes('weights of step {10 * epoch}')")
        expected = values + 1 if epoch == 2 else values
        np.testing.assert_array_equal(np.array(found.js("[...minicnn.network.values]"), np.float32), expected)
    assert found.page.locator(".curves path").count() == 4
    found.page.uncheck("#panel-tabRun input")  # stays at its weights
    run.checkpoint(network, 30)
    found.until("document.body.innerText.includes('weights of step 30')")
    np.testing.assert_array_equal(np.array(found.js("[...minicnn.network.values]"), np.float32), expected)
    run.stop()
    found.until("document.body.innerText.includes('The run has ended')")


def ask(server: Server, path: str, host: str | None = None, method: str = "GET") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
    connection.endheaders()
    return connection.getresponse()


def test_nothing_else_is_served_and_to_nobody_else(server: Server) -> None:
    answer = ask(server, "/")
    assert answer.status == 200 and b"connect-src 'self'" in answer.read()
    assert answer.headers["X-Frame-Options"] == "DENY" and answer.headers["Cache-Control"] == "no-store"
    for path in ("/config.yaml", "/../config.yaml", "/.", "/events/", "/?x", "/checkpoints/", "/favicon.ico"):
        assert ask(server, path).status == 404, path
    for host in ("evil.example", "127.0.0.1", f"127.0.0.1:{server.server_port + 1}", "localhost"):
        assert ask(server, "/", host).status == 403, host
        assert ask(server, "/events", host).status == 403, host
    assert ask(server, "/", f"localhost:{server.server_port}").status == 200
    assert ask(server, "/", method="POST").status == 501
    assert server.server_address[0] == "127.0.0.1"


def test_rows_of_a_table_that_grows(tmp_path: Path) -> None:
    table, path = GrowingTable(tmp_path / "t.csv"), tmp_path / "t.csv"
    assert table.news() == []
    path.write_text("step,loss\n1,0.5\n2,0.")
    assert table.news() == [{"step": 1, "loss": 0.5}]
    path.write_text("step,loss\n1,0.5\n2,0.25\n3,nan\n")
    assert table.news() == [{"step": 2, "loss": 0.25}, {"step": 3}]
    assert table.news() == []
    path.write_text("step,loss\n1,0.75\n")  # the run has gone back to an earlier checkpoint
    assert table.news() == [{"step": 1, "loss": 0.75}]


def test_what_cannot_be_watched(run: Run, tmp_path: Path, capsys: Any) -> None:
    assert is_training(run.path) in (True, None)
    run.stop()
    assert is_training(run.path) in (False, None)
    for arguments, message in (
        ([str(run.path)], "expected a run that is training, nobody trains there"),
        ([str(tmp_path / "nothing")], "expected the folder of a run, with config.yaml in it"),
    ):
        assert main(["watch", *arguments]) == 1
        assert message in capsys.readouterr().err
    assert main(["watch", str(run.path), "--port", "70000"]) == 2
    assert "--port: expected a number from 0 to 65535, received 70000" in capsys.readouterr().err


def test_a_port_that_is_taken(run: Run, server: Server) -> None:
    with pytest.raises(MinicnnError, match=f"--port: expected a free one, received {server.server_port}"):
        Server(server.watch, server.server_port)
