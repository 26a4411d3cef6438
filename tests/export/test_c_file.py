"""A network as a C file: its program, its macros and memory, its names, and what is refused."""

import itertools
import subprocess

import numpy as np
import pytest
from c_models import IMAGE, images_of, in_range, micro
from c_programs import FLAGS, SANITIZED, STRICT, compile_c, found

from minicnn import BatchNorm2d, Conv2d, Flatten, Layer, Linear, Model, ReLU, Sequential, Tanh, lenet5, lenet5_1998
from minicnn.errors import ConfigError, MinicnnError
from minicnn.export.c import export_c, quantize
from minicnn.export.c.memory import plan
from minicnn.export.c.operation import OPERATIONS, Operation
from minicnn.export.c.source import source


def lenet():
    classes = ["zero", 'quo"ted', "back\\slash", "*/ */ /*", "??/ ??=", "new\nline", "f\u00fcnf", "%s %d", "", "9"]
    return Model(lenet5().initialize(rng=0), (1, 28, 28), 0.1307, 0.3081, classes, "digits */ of ??/ \\ f\u00fcnf")


@pytest.mark.parametrize("compiler", FLAGS)
@pytest.mark.parametrize("make", [lambda model: model, lambda model: quantize(model, images_of((1, 28, 28), 20, 1))])
def test_the_program_reads_an_image_and_prints_scores(make, compiler, tmp_path):
    found(compiler)
    model = lenet()
    made = make(model)
    export_c(made, tmp_path / "lenet.c")
    compile_c(compiler, [*STRICT, "-O2", "-DLENET_MAIN", "lenet.c", "-o", "lenet", "-lm"], tmp_path)
    image = images_of((1, 28, 28))[3]
    (tmp_path / "image.pgm").write_bytes(b"P5\n# a comment\n28 # another\n 28\n255\n" + image.tobytes())
    done = subprocess.run([tmp_path / "lenet", tmp_path / "image.pgm"], capture_output=True)
    assert done.returncode == 0
    text = done.stdout.decode()
    scores = made.scores(image)[0]
    position = 0
    for name, score in zip(model.classes, scores, strict=True):
        assert text[position:].startswith(f"{name}: ")
        number, _, _ = text[position + len(name) + 2 :].partition("\n")
        assert float(number) == pytest.approx(score, rel=1e-4, abs=1e-4)
        position += len(name) + 2 + len(number) + 1
    assert text[position:] == model.classes[scores.argmax()] + "\n"


def test_the_program_refuses_other_files_and_reads_colours(tmp_path):
    found("gcc")
    model = in_range([Flatten(), Linear(60, 4)], (3, 4, 5))
    export_c(model, tmp_path / "colour.c")
    compile_c("gcc", [*SANITIZED, "-DCOLOUR_MAIN", "colour.c", "-o", "colour", "-lm"], tmp_path)
    image = images_of((3, 4, 5))[3]
    good = b"P6 5 4 255\n" + image.transpose(1, 2, 0).tobytes()
    bad = [b"", b"P", b"P5 5 4 255\n" + good[11:], b"P6 4 5 255\n" + good[11:], b"P6 5 4 65535\n" + good[11:]]
    bad += [good[:-1], b"P6 5 4\n", b"P6 5 99999999999999999999 255\n", b"P6 # no end", b"P6 -5 4 255\n"]
    path = tmp_path / "image.ppm"
    for content in bad:
        path.write_bytes(content)
        done = subprocess.run([tmp_path / "colour", path], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (1, ""), content
        assert done.stderr == f"{path}: expected a PPM file (P6) of 5 x 4 pixels, up to 255\n"
    for words, code in (([], 2), (["a", "b"], 2), ([tmp_path / "none"], 1)):
        done = subprocess.run([tmp_path / "colour", *words], capture_output=True, text=True)
        assert (done.returncode, done.stderr.count("\n")) == (code, 1)
    path.write_bytes(good)
    done = subprocess.run([tmp_path / "colour", path], capture_output=True, text=True)
    *scores, best = done.stdout.split("\n")[:-1]
    expected = model.scores(image)[0]
    np.testing.assert_allclose([float(line.split(": ")[1]) for line in scores], expected, rtol=1e-4)
    assert best == str(expected.argmax())


def test_macros_say_what_the_program_takes(tmp_path):
    found("gcc")
    export_c(lenet(), tmp_path / "lenet.c")
    text = (tmp_path / "lenet.c").read_text()
    macros = dict(line.split()[1:3] for line in text.splitlines() if line.startswith("#define"))
    memory = 4 * (6 * 28 * 28 + 28 * 28)  # C1 and the image, the two largest maps that live at the same time
    assert macros == {
        "LENET_PIXELS": "784",
        "LENET_SCORES": "10",
        "LENET_WEIGHT_BYTES": str(4 * (61706 + 2)),
        "LENET_MEMORY_BYTES": str(memory),
        "LENET_MULTIPLY_ADDS": "416520",
    }
    compile_c("gcc", [*STRICT, "-Os", "-c", "lenet.c"], tmp_path)
    size = subprocess.run([found("size"), "lenet.o"], cwd=tmp_path, capture_output=True, text=True).stdout
    assert int(size.splitlines()[1].split()[2]) == pytest.approx(memory, abs=64)


@pytest.mark.parametrize(
    ("make", "flash", "ram"),
    [
        (lenet, 66_000, 12_000),
        (lambda: Model(lenet5_1998(), (1, 32, 32)), 66_000, 12_000),
        (micro, 18_000, 4_000),  # the loops take less than 2,000 bytes
    ],
    ids=["LeNet-5", "LeNet-5 of 1998", "micro"],
)
def test_networks_in_integers_fit_into_a_microcontroller(make, flash, ram):
    model = make()
    text = source(quantize(model, images_of(model.input_shape, 2)), "net")
    macros = dict(line.split()[1:3] for line in text.splitlines() if line.startswith("#define"))
    assert int(macros["NET_WEIGHT_BYTES"]) < flash
    assert int(macros["NET_MEMORY_BYTES"]) < ram


# The plan of the memory.


@pytest.mark.parametrize("seed", range(30))
def test_maps_that_live_at_the_same_time_do_not_overlap(seed):
    rng = np.random.default_rng(seed)
    sizes = [int(size) for size in rng.integers(1, 50, rng.integers(0, 9))]
    in_place = [bool(rng.integers(2)) and b <= a for a, b in itertools.pairwise(sizes)]
    offsets, total = plan(sizes, [*in_place, False])
    assert len(offsets) == len(sizes)
    assert all(offset >= 0 and offset + size <= total for offset, size in zip(offsets, sizes, strict=True))
    needed = [sizes[0]] if sizes else [0]
    for t, together in enumerate(in_place):
        (a, b), (m, n) = offsets[t : t + 2], sizes[t : t + 2]
        assert a == b if together else (a + m <= b or b + n <= a)
        needed.append(m if together else m + n)
    assert max(needed) <= total <= sum(sizes)


def test_a_map_that_shrinks_leaves_room():
    # 16 x 16 made of 32 x 32 in its place, 12 maps of it, and these pooled.
    _, total = plan([1024, 256, 3072, 768], [True, False, True])
    assert total == 256 + 3072


# Names, and what is refused.


@pytest.mark.parametrize(
    ("file", "name"),
    [("lenet.c", "lenet"), ("my-net 2.c", "my_net_2"), ("28x28.c", "net_28x28"), ("_a.c", "a"), ("\u00fc.c", "net")],
)
def test_the_name_is_made_of_the_files(file, name, tmp_path):
    export_c(in_range([Flatten(), Linear(84, 3)], IMAGE), tmp_path / file)
    text = (tmp_path / file).read_text(encoding="ascii")
    assert f"void {name}_predict(const uint8_t *pixels, float *scores)\n{{" in text
    assert f"#define {name.upper()}_PIXELS 84 " in text


@pytest.mark.parametrize("name", ["my-net", "", "2nd", "_net", "a b", "n\u00e9t", "net\n"])
def test_a_name_that_is_no_identifier_is_refused(name, tmp_path):
    with pytest.raises(ConfigError, match=r"name: expected letters, digits and _, a letter first, received "):
        export_c(lenet(), tmp_path / "net.c", name)
    assert list(tmp_path.iterdir()) == []


class Shift(Layer):
    """y = x + 1, a layer of a user's own."""

    def output_shape(self, input_shape):
        return input_shape

    def forward(self, x, training=False):
        return x + 1

    def backward(self, dy):
        return dy


class Twice(Sequential):
    def forward(self, x, training=False):
        return super().forward(super().forward(x, training), training)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [Conv2d(2, 2, 1), Sequential([Shift()])],
            r"layer 1\.0 Shift\(\): .*without an operation.*Operation, with of=\[Shift\]",
        ),
        ([Twice([Tanh()])], r"layer 0 Sequential.*without an operation"),
        ([BatchNorm2d(2, track_running_stats=False)], r"layer 0 BatchNorm2d.*one image at a time.*of each batch"),
    ],
)
def test_a_layer_that_cannot_be_written_is_one_error(layers, message, tmp_path):
    model = Model(Sequential(layers), IMAGE)
    with pytest.raises(MinicnnError, match=message):
        export_c(model, tmp_path / "net.c")
    with pytest.raises(MinicnnError, match=message):
        quantize(model, images_of(IMAGE))
    assert list(tmp_path.iterdir()) == []


def test_an_operation_of_ones_own_in_float_alone(tmp_path, monkeypatch):
    class Loops(Operation):
        formula = "y = x + 1"

        def body(self, code):
            return self.over("c", [code.store("c", "x[c] + 1", "c")])

    monkeypatch.setitem(OPERATIONS, Shift, Loops)
    monkeypatch.setattr(Shift, "per_sample_inference", True)
    model = Model(Sequential([Flatten(), Shift()]), (1, 2, 2))
    export_c(model, tmp_path / "net.c")
    assert "y[c] = x[c] + 1;" in (tmp_path / "net.c").read_text()
    with pytest.raises(MinicnnError, match=r"layer 1 Shift\(\): expected an operation in integers; derive it from"):
        quantize(model, images_of((1, 2, 2)))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
@pytest.mark.parametrize("write", [export_c, quantize])
def test_weights_that_float32_does_not_hold_are_refused(write, value, tmp_path):
    model = in_range([Flatten(), Linear(84, 3)], IMAGE)
    model.network.astype(np.float64)
    model.network[1].bias.value[1] = value
    with pytest.raises(
        MinicnnError, match=r"layer 1 (Dense|Linear).*: bias: expected numbers of float32, received NaN"
    ):
        write(model, tmp_path / "net.c")
    norm = BatchNorm2d(2, eps=0)
    norm.running_var[1] = 0
    with pytest.raises(MinicnnError, match=r"layer 0 BatchNorm2d.*: weight: expected numbers of float32"):
        write(Model(norm, IMAGE), tmp_path / "net.c")


def test_a_file_that_cannot_be_written_is_one_error(tmp_path):
    with pytest.raises(MinicnnError, match=r"none/net\.c: cannot be written"):
        export_c(lenet(), tmp_path / "none" / "net.c")


def test_a_model_is_left_as_it_was(tmp_path):
    model = in_range([Conv2d(2, 3, 3), BatchNorm2d(3), ReLU(), Flatten(), Linear(60, 3)], IMAGE)
    before = {name: array.copy() for name, array in model.network.state_dict().items()}
    export_c(model, tmp_path / "one.c", "net")
    export_c(quantize(model, images_of(IMAGE)), tmp_path / "int8.c", "net")
    export_c(model, tmp_path / "two.c", "net")
    assert (tmp_path / "one.c").read_bytes() == (tmp_path / "two.c").read_bytes()
    for name, array in model.network.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
