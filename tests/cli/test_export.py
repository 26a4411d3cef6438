"""`minicnn export`."""

import sys
from pathlib import Path

import numpy as np
import pytest
from small_models import SHAPE, bytes_of, grey_model

from minicnn.cli import main


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    grey_model().save("run/model.safetensors")
    return tmp_path


@pytest.mark.parametrize("run", ["run", "run/model.safetensors"])
def test_export_writes_an_onnx_file(run, run_folder, capsys):
    import onnxruntime

    assert main(["export", run, "model.onnx"]) == 0
    assert capsys.readouterr().out == "model.onnx\n"
    images = bytes_of((3, *SHAPE))
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    [scores] = session.run(None, {"pixels": (images / 255).astype(np.float32)})
    np.testing.assert_allclose(scores, grey_model().scores(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none", "model.onnx"], 1, "none: expected a model file or a run's folder"),
        (["empty", "model.onnx"], 1, "empty: expected a run's folder, with model.safetensors"),
        (["bad.safetensors", "model.onnx"], 1, "bad.safetensors: expected a model file"),
        (["run", "none/model.onnx"], 1, "none/model.onnx: cannot be written"),
        (["run", "bad.safetensors/model.onnx"], 1, "model.onnx: cannot be written"),
        (["run", "run/model.safetensors"], 2, "expected FILE with the ending .onnx or .c, received run/"),
        (["run", "model.c", "--name", "my-net"], 2, "name: expected letters, digits and _, a letter first"),
        (["run", "model.onnx", "--name", "net"], 2, "--name: expected a FILE.c with it"),
        (["run", "model.onnx", "--int8"], 2, "--int8: expected a FILE.c with it"),
        (["run", "model.c", "--root", "data"], 2, "--root: expected --int8 with it"),
        (["run", "model.c", "--int8"], 1, "data set: expected one of mnist, "),
        (["run"], 2, "required: FILE; see minicnn export --help"),
    ],
)
def test_mistakes_with_export_are_one_line(arguments, code, message, run_folder, capsys):
    Path("empty").mkdir()
    Path("bad.safetensors").write_bytes(b"nothing")
    before = sorted(run_folder.rglob("*"))
    assert main(["export", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(run_folder.rglob("*")) == before


def test_export_without_onnx_names_the_command_that_installs_it(run_folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", "run", "model.onnx"]) == 1
    assert "error: ONNX export needs the package onnx: python -m pip" in capsys.readouterr().err
