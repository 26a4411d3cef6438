"""The page of a run that is training, served on this machine alone: its curves and weights as they come."""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from minicnn.config.experiment import Experiment
from minicnn.config.settings import Settings
from minicnn.errors import MinicnnError
from minicnn.model import FILE_NAME
from minicnn.page.bundle import page
from minicnn.page.facts import check, collect_untrained, packed_floats
from minicnn.training.callbacks.weights import WeightAverage
from minicnn.training.checkpoint import Checkpoint, Checkpoints
from minicnn.training.run_folder import is_training

HOST = "127.0.0.1"
PAUSE = 0.5  # seconds between two looks at the run's folder
SILENCE = 10.0  # seconds after which a reader that is gone is noticed
FAREWELL = 2.0  # seconds for all readers to hear the end

Event = tuple[str, Any]


class GrowingTable:
    """The rows of a CSV file that another process writes, as far as they are whole lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = 0
        self._names: list[str] = []

    def news(self) -> list[dict[str, float]]:
        """The rows that have come since the last call; all of them again where the file begins anew."""
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self._size:
                    self._size = 0
                file.seek(self._size)
                content = file.read()
        except OSError:
            return []
        end = content.rfind(b"\n") + 1
        lines = content[:end].decode("utf-8", "replace").splitlines()
        if self._size == 0 and lines:
            self._names = lines.pop(0).split(",")
        self._size += end
        rows = []
        for line in lines:
            with suppress(ValueError):
                numbers = map(float, line.split(","))
                rows.append({k: v for k, v in zip(self._names, numbers, strict=True) if np.isfinite(v)})
        return rows


class Watch:
    """What is known of a run by now, as events (name, value), and threads that wait for more."""

    def __init__(self, run: Path, settings: Settings) -> None:
        self.run, self.settings = run, settings
        experiment = Experiment(settings, resumed=True)
        self.network, data = experiment.network, experiment.data
        self.model = experiment.model
        check(self.model)
        self.over = False
        self._tables = {"metrics": GrowingTable(run / "metrics.csv"), "steps": GrowingTable(run / "steps.csv")}
        self._stamp: tuple[int, int] | None = None  # of the checkpoint that was read last
        self._weights: Event | None = None
        self._rows: list[Event] = []
        self._news = threading.Condition()
        self._look()
        title = f"{run.resolve().name}, training on {data.name}"
        facts = {
            "title": title,
            **collect_untrained(self.model, data, settings),
            "live": {"epochs": settings.training.epochs},
        }
        self.page = page(title, facts, live=True).encode()

    def follow(self) -> None:
        """Looks at the run until it has ended."""
        while not self.over:
            time.sleep(PAUSE)
            training = is_training(self.run)  # asked first: what was written before the end is then still seen
            self._look()
            if training is False or (training is None and self._is_complete()):
                with self._news:
                    self.over = True
                    self._news.notify_all()

    def _is_complete(self) -> bool:
        rows = [row for name, news in self._rows if name == "metrics" for row in news]
        epochs = self.settings.training.epochs
        return (self.run / FILE_NAME).exists() and any(row.get("epoch") == epochs for row in rows)

    def _look(self) -> None:
        """Takes in what is new in the run's folder."""
        found: list[Event] = [(name, rows) for name, table in self._tables.items() if (rows := table.news())]
        weights = self._new_weights()
        with self._news:
            self._rows += found
            self._weights = weights or self._weights
            if found or weights:
                self._news.notify_all()

    def _new_weights(self) -> Event | None:
        checkpoints = Checkpoints(self.run)
        try:
            status = checkpoints.last.stat()
            stamp = status.st_mtime_ns, status.st_size
            if stamp == self._stamp:
                return None
            checkpoint = checkpoints.read()
            self._load(checkpoint)
        except (OSError, MinicnnError):  # between two names, or of another version: the next one may do
            return None
        self._stamp = stamp
        step = checkpoint.state["progress"]["step"]
        return "weights", {"step": step, "weights": packed_floats(self.network)}

    def _load(self, checkpoint: Checkpoint) -> None:
        """Gives the network the weights of a checkpoint, or their averages, if these are what counts in the run."""
        prefix, arrays = "network.", checkpoint.arrays
        self.network.load_state_dict({k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)})
        average = arrays.get(f"{WeightAverage.__name__}.average")
        if average is not None and average.shape == self.network.values.shape:
            self.network.values[...] = average

    def events(self) -> Iterator[Event | None]:
        """All rows so far and the latest weights, then what comes, and "end"; None where nothing came for a while."""
        sent, weights = 0, None
        while True:
            with self._news:
                if sent == len(self._rows) and weights is self._weights and not self.over:
                    self._news.wait(SILENCE)
                news, sent = self._rows[sent:], len(self._rows)
                latest, over = self._weights, self.over
            yield from news
            if latest is not weights:
                weights = latest
                yield latest
            if over:
                yield "end", None
                return
            if not news:
                yield None


class Server(ThreadingHTTPServer):
    """Serves the page at /, and its events at /events, to this machine; nothing else."""

    daemon_threads = True

    def __init__(self, watch: Watch, port: int = 0) -> None:
        try:
            super().__init__((HOST, port), Handler)
        except OSError as error:
            raise MinicnnError(f"--port: expected a free one, received {port}: {error.strerror}") from None
        self.watch = watch
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}/"

    def serve_to_the_end(self) -> None:
        """Serves until the run has ended and its readers have heard of it."""
        threading.Thread(target=self.serve_forever, daemon=True).start()
        try:
            self.watch.follow()
            time.sleep(FAREWELL)
        finally:
            self.shutdown()
            self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that is gone is no fault."""


class Handler(BaseHTTPRequestHandler):
    """Answers GET / and GET /events; a request under another name, as from a page elsewhere, is refused."""

    server: Server
    server_version, sys_version = "minicnn", ""

    def do_GET(self) -> None:
        if self.headers.get("Host") not in self.server.hosts:
            self.send_error(HTTPStatus.FORBIDDEN)
        elif self.path == "/":
            self._head("text/html; charset=utf-8", len(self.server.watch.page))
            self.wfile.write(self.server.watch.page)
        elif self.path == "/events":
            self._head("text/event-stream")
            for event in self.server.watch.events():
                text = ":\n\n" if event is None else f"event: {event[0]}\ndata: {json.dumps(event[1])}\n\n"
                self.wfile.write(text.encode())
                self.wfile.flush()
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _head(self, kind: str, length: int | None = None) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in (
            ("Cache-Control", "no-store"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
        ):
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the run says enough."""
