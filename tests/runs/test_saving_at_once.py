"""Several threads that write one file: in the end it is whole, and one of theirs; nothing is left beside it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from minicnn import Dense, Model, Sequential, load
from minicnn.data.cache import open_arrays, save_arrays
from minicnn.files import write_whole
from minicnn.inspect.plots.canvas import write_png

THREADS, ROUNDS = 4, 25


def at_once(write):
    """write(thread) from several threads at once, many times; what is there must be whole after each round."""
    barrier = threading.Barrier(THREADS)

    def run(number):
        for _ in range(ROUNDS):
            barrier.wait(60)
            write(number)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(run, range(THREADS)))


def test_files(tmp_path):
    path = tmp_path / "file"
    contents = [bytes([65 + k]) * (1 + 200_000 * k) for k in range(THREADS)]
    at_once(lambda k: (write_whole(path, contents[k]), path.read_bytes() in contents or 1 / 0))
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_models(tmp_path):
    path = tmp_path / "model.safetensors"
    models = [Model(Sequential([Dense(30 + k, 50 * k + 2)]), (30 + k,)) for k in range(THREADS)]
    at_once(lambda k: (models[k].save(path), load(path)))
    assert load(path).input_shape[0] in range(30, 30 + THREADS)
    assert list(tmp_path.iterdir()) == [path]


def test_one_model_that_is_saved_to_several_files(tmp_path):
    model = Model(Sequential([Dense(30, 50)]), (30,))
    at_once(lambda k: model.save(tmp_path / f"{k}"))
    assert len({(tmp_path / f"{k}").read_bytes() for k in range(THREADS)}) == 1


def test_caches_of_data_sets(tmp_path):
    path = tmp_path / "cache.npy"
    arrays = [{"a": np.full((200, 10 + 40 * k), k, np.uint8)} for k in range(THREADS)]
    at_once(lambda k: save_arrays(path, arrays[k]))
    assert open_arrays(path)["a"].shape[1] in {10 + 40 * k for k in range(THREADS)}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.filterwarnings("ignore")
def test_pictures(tmp_path):
    path = tmp_path / "picture.png"
    figures = [Figure((1 + k, 1)) for k in range(THREADS)]
    at_once(lambda k: write_png(figures[k], path))
    with Image.open(path) as picture:
        picture.load()
    assert list(tmp_path.iterdir()) == [path]
