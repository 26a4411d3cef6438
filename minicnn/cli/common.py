"""What the commands share: the parser, the exit codes, and some arguments."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from minicnn.console import answer, warn
from minicnn.errors import ConfigError
from minicnn.files import make_folder

if TYPE_CHECKING:
    from minicnn.model import Model
    from minicnn.runs.subject import Subject

FAULT = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130  # what shells give a command that Ctrl-C ended

EXIT_CODES = """\
exit codes:
  0    done
  1    data, files or your own code could not be used, the loss became NaN or infinite, or a gradient is wrong
  2    wrong usage or settings
  70   a fault of minicnn itself; a log file has its traceback
  130  interrupted (Ctrl-C); the run folder has what was learned, and --resume goes on
"""


class Parser(argparse.ArgumentParser):
    """An argument parser that raises ConfigError for wrong usage, and prints its help as any answer is printed."""

    def error(self, message: str) -> NoReturn:
        from minicnn.validation import suggest

        found = re.search(r"argument (\S+): invalid choice: (.+) \(choose from (.*)\)", message)
        if found:
            name, word, known = found.groups()
            kind = "command" if name == "COMMAND" else name
            word, *choices = (one.strip(" '\"") for one in (word, *known.split(",")))
            message = f"unknown {kind} {word}; {suggest(word, choices)}"
        raise ConfigError(f"{message}; see {self.prog} --help")

    @property
    def options(self) -> list[str]:
        """All options that its help names."""
        return sorted(set(re.findall(r"--[a-z][a-z-]*", self.format_help())))

    def _print_message(self, message: str, file: object = None) -> None:
        answer(message.removesuffix("\n"))


def add_run(parser: Parser) -> None:
    """The argument RUN: a trained model."""
    parser.add_argument("run", metavar="RUN", help="the folder of a run, or a model file")


def add_config(parser: Parser) -> None:
    """The arguments CONFIG KEY=VALUE ..., for `load_settings`."""
    parser.add_argument("config", metavar="CONFIG", help="a YAML file")
    parser.add_argument("words", metavar="KEY=VALUE", nargs="*", help="settings that replace those of the file")


def add_subject(parser: Parser, others: str = "") -> None:
    """The arguments RUN, or CONFIG KEY=VALUE ..., for `subject_of`; `others` may stand behind them."""
    parser.add_argument(
        "words",
        metavar=f"RUN | CONFIG KEY=VALUE{others}",
        nargs="*",
        help="the folder of a run, or a model file; or a YAML file and settings that replace those of the file, for "
        "the network that a training begins with",
    )


def add_trust(parser: Parser) -> None:
    """The option --trust-code."""
    parser.add_argument(
        "--trust-code",
        action="store_true",
        help="run the code of your own layers, losses, optimizers and callbacks that lies in the run's folder",
    )


def add_image(parser: Parser) -> None:
    """The option --image, for `Subject.sample`."""
    parser.add_argument(
        "--image",
        metavar="IMAGE",
        default=None,
        help="the number of a test image of the run's data (of a training image with CONFIG), or an image file [0]",
    )


def subject_of(arguments: argparse.Namespace) -> "Subject":
    """What the words of `add_subject`, and the options of `add_data` if there are some, say. Raises MinicnnError."""
    from minicnn.runs.subject import Subject

    if not arguments.words:
        raise ConfigError("expected RUN or CONFIG; see --help")
    name, *overrides = arguments.words
    name_of_data, path, root = (getattr(arguments, option, None) for option in ("data", "path", "root"))
    return Subject(name, overrides, (name_of_data, path, root))


def add_data(parser: Parser) -> None:
    """The options --data, --path and --root, for `minicnn.runs.data.load_data_for`."""
    parser.add_argument("--data", metavar="NAME", help="a data set [the run's own]")
    parser.add_argument("--path", type=Path, help="where the data set folder or arrays lies")
    parser.add_argument("--root", type=Path, help="the folder of downloaded data sets [the run's, or data]")


def add_tta(parser: Parser) -> None:
    """The option --tta, for `Model.scores`."""
    parser.add_argument(
        "--tta",
        metavar="N",
        nargs="?",
        type=_views,
        const=8,
        default=1,
        help="test-time augmentation: look at N views of each image, and take the mean of the probabilities [8]",
    )


def warn_of_views(model: "Model", tta: int) -> None:
    """Says so if test-time augmentation has little to offer."""
    if tta > 1 and model.augmentation is None:
        warn("--tta: the model was trained without augmentation, and gains little from views moved by a pixel")


def _views(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of views, such as --tta 8, received {text}")
    return int(text)


def add_out(parser: Parser) -> None:
    """The option --out, for `picture_folder`."""
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        help="the folder for the pictures [one in RUN, or in a folder called as CONFIG]",
    )


def picture_folder(subject: "Subject", out: Path | None, name: str) -> Path:
    """The folder for the pictures, made: `out`, or `name` in that of the subject. Raises MinicnnError."""
    return make_folder(out or subject.folder / name, "--out")


def add_picture(parser: Parser, name: str) -> None:
    """The option --out for one picture, which `picture_file` takes."""
    parser.add_argument(
        "-o", "--out", metavar="FILE", type=_png, help=f"the picture [{name} in a folder called as CONFIG]"
    )


def _png(name: str) -> Path:
    if Path(name).suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"expected a file .png, received {name}")
    return Path(name)


def picture_file(config: str, out: Path | None, name: str) -> Path:
    """The file of a picture, whose folder is made: `out`, or `name` in a folder called as the configuration."""
    path = out or Path(Path(config).stem) / name
    make_folder(path.parent, "--out")
    return path


def check_picture(target: Path, image: Path) -> None:
    """Raises ConfigError unless a picture of what was seen in `image` may be written there."""
    if target.suffix.lower() != ".png" or target.is_dir():
        raise ConfigError(f"--show: expected a file .png, received {target}")
    if target.exists() and image.exists() and target.samefile(image):
        raise ConfigError(f"--show: expected another file than the image, received {target}")


def picture_name(place: str, layer: object) -> str:
    """02-MaxPool.png for the layer at place 2, 02.01-ReLU.png for the one at 2.1: in order where files are sorted."""
    return f"{'.'.join(part.zfill(2) for part in place.split('.'))}-{type(layer).__name__}.png"
