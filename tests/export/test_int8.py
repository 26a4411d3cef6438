"""Models in integers: how near they come to floats, on what machine they run, and what is refused."""

import subprocess

import numpy as np
import pytest
from c_programs import STRICT, assert_equals_python, compile_c, found, scores_of

from minicnn import (
    SGD,
    Batches,
    Flatten,
    Linear,
    Model,
    ReLU,
    Sequential,
    ShapeError,
    Softmax,
    SoftmaxCrossEntropy,
    lenet5,
    load_dataset,
    train_step,
)
from minicnn.cli import main
from minicnn.errors import MinicnnError
from minicnn.export.c import export_c, quantize

#: A program without an operating system's library, which asks Linux itself to read images and to write scores.
BARE = """\
#include "net.c"
#ifdef __arm__
enum { READ = 3, WRITE = 4, EXIT = 1 };
static long call(long number, long a, const void *b, long c)
{
    register long r7 __asm__("r7") = number, r0 __asm__("r0") = a, r1 __asm__("r1") = (long)b, r2 __asm__("r2") = c;
    __asm__ volatile("svc 0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2) : "memory");
    return r0;
}
#else
enum { READ = 63, WRITE = 64, EXIT = 93 };
static long call(long number, long a, const void *b, long c)
{
    register long a7 __asm__("a7") = number, a0 __asm__("a0") = a, a1 __asm__("a1") = (long)b, a2 __asm__("a2") = c;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2) : "memory");
    return a0;
}
#endif
static uint8_t pixels[NET_PIXELS];
static float scores[NET_SCORES];
void _start(void)
{
    long have = 0, more;
    while ((more = call(READ, 0, pixels + have, NET_PIXELS - have)) > 0) {
        have += more;
        if (have == NET_PIXELS) {
            net_predict(pixels, scores);
            call(WRITE, 1, scores, sizeof scores);
            have = 0;
        }
    }
    call(EXIT, 0, 0, 0);
}
"""
CORES = {
    "Cortex-M4": ("arm-none-eabi-gcc", ("-mcpu=cortex-m4", "-mthumb"), "qemu-arm"),
    "RV32": ("riscv64-unknown-elf-gcc", ("-march=rv32imac", "-mabi=ilp32", "-Wl,--no-relax"), "qemu-riscv32"),
}


@pytest.fixture(scope="module")
def digits():
    return load_dataset("mnist-subset")


@pytest.fixture(scope="module")
def trained(digits):
    """LeNet-5 after two passes over the digits, in float and in integers."""
    network = lenet5().initialize(rng=0)
    optimizer, loss = SGD(network.parameters(), lr=0.05, momentum=0.9), SoftmaxCrossEntropy()
    batches = Batches(digits.train_images, digits.train_labels, 64, digits.mean, digits.std, seed=0)
    for _ in range(2):
        for batch in batches.epoch():
            train_step(network, loss, optimizer, batch)
    model = Model(network, (1, 28, 28), digits.mean, digits.std, digits.classes, "digits")
    return model, quantize(model, digits.train_images[::20])


def test_integers_recognise_as_many_digits_as_floats(trained, digits):
    right, right_in_integers = ((model.predict(digits.test_images) == digits.test_labels).mean() for model in trained)
    assert right > 0.95
    assert right_in_integers > right - 0.003


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_all_test_images_give_the_same_bits_in_c(compiler, trained, digits, tmp_path):
    models = dict(zip(("whole", "integers"), trained, strict=True))
    results = scores_of(compiler, (*STRICT, "-O2"), models, [digits.test_images] * 2, tmp_path)
    for name, model in models.items():
        assert_equals_python(results[name], model, digits.test_images)


@pytest.mark.parametrize("core", CORES)
def test_a_microcontroller_gives_the_same_bits(core, trained, digits, tmp_path):
    compiler, flags, emulator = CORES[core]
    found(emulator)
    (tmp_path / "bare.c").write_text(BARE)
    (tmp_path / "include").mkdir()  # with the only header that the file asks for
    kinds = ("INT8", "UINT8", "INT32", "INT64")
    header = "".join(f"typedef __{kind}_TYPE__ {kind.lower()}_t;\n" for kind in kinds)
    (tmp_path / "include" / "stdint.h").write_text(header)
    export_c(trained[1], tmp_path / "net.c")
    words = [
        *flags,
        "-Os",
        "-ffreestanding",
        "-nostdlib",
        "-Iinclude",
        "-Wall",
        "-Werror",
        "bare.c",
        "-lgcc",
        "-o",
        "net",
    ]
    compile_c(compiler, words, tmp_path)
    images = digits.test_images[:20]
    done = subprocess.run([emulator, "net"], cwd=tmp_path, input=images.tobytes(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert_equals_python(np.frombuffer(done.stdout, np.float32).reshape(20, 10), trained[1], images)


def test_the_file_has_no_float_but_the_scores(trained, tmp_path):
    export_c(trained[1], tmp_path / "net.c")
    lines = [line for line in (tmp_path / "net.c").read_text().splitlines() if "float" in line]
    functions = [line for line in lines if "scores" not in line and "const float net_layer_11_scale" not in line]
    assert functions == [
        "static void net_layer_11(const uint8_t *x, float *y)",
        "        y[o] = (float)sum * net_layer_11_scale[o];",
    ]


def test_images_other_than_bytes_are_refused(trained, digits):
    _, model = trained
    images = digits.test_images[:3]
    assert model.scores(images).tobytes() == model.scores(images[:, 0]).tobytes()
    assert model.predict(images[0]) == model.predict(images)[0]
    for wrong in (images / 255, images[:, :, 1:], images.astype(np.int64)):
        with pytest.raises(ShapeError, match=r"images: expected (uint8|\(N, 1, 28, 28\))"):
            model.scores(wrong)
    with pytest.raises(MinicnnError, match="at least one, received none"):
        model.scores(images[:0])


def test_sums_that_may_not_fit_are_refused():
    def model(inputs):
        network = Sequential([Linear(inputs, 1, bias=False)])
        network.values = 1
        return Model(network, (inputs,))

    most = (2**31 - 1) // (127 * 255)
    images = np.full((1, most + 1), 255, np.uint8)
    assert quantize(model(most), images[:, :-1]).scores(images[:, :-1]) == pytest.approx(most, rel=1e-6)
    with pytest.raises(MinicnnError, match=r"layer 0 .*: expected sums of at most 32 bits, received up to 2\.15e\+09"):
        quantize(model(most + 1), images)


def test_wrong_arguments_are_refused():
    with pytest.raises(MinicnnError, match=r"quantize: model: expected a Model, received (Linear|Dense)\("):
        quantize(Linear(2, 2), np.zeros((1, 2), np.uint8))
    with pytest.raises(ShapeError, match=r"images: expected \(N, 2\)"):
        quantize(Model(Sequential([Linear(2, 2)]), (2,)), np.zeros((1, 3), np.uint8))


def test_the_command_chooses_ranges_on_training_images(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2100, 1, 4, 5), np.uint8)
    model = Model(Sequential([Flatten(), Linear(20, 6), ReLU(), Linear(6, 3), Softmax()]), (1, 4, 5), 0.5, 0.3)
    model.save("net.safetensors")
    np.savez("own.npz", images=images, labels=rng.integers(0, 3, 2100))
    words = ["export", "net.safetensors", "my.c", "--int8", "--data", "arrays", "--path", "own.npz", "--name", "other"]
    assert main(words) == 0
    assert capsys.readouterr().out == "my.c\n"
    export_c(quantize(model, images[::2]), "expected.c", "other")
    assert (tmp_path / "my.c").read_bytes() == (tmp_path / "expected.c").read_bytes()
