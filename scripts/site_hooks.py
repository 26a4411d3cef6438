"""What the site has beside docs/: the reference, sources that pages link to, the notebook, and LeNet-5 at work.

`mkdocs build` calls these functions (see mkdocs.yml); nothing is written into docs/.
"""

import json
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

import minicnn
from minicnn import Model, cli, layers, lenet5, load_dataset, losses, optimizers

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
LINK = re.compile(r"(\[[^\]\n]+\])\(([^)\s]+)\)")
REFERENCE = {
    "training": (
        "Models and training",
        (
            "Model",
            "load",
            "load_dataset",
            "Augmentation",
            "Batches",
            "Trainer",
            "Callback",
            "EarlyStopping",
            "train_step",
            "evaluate",
        ),
    ),
    "layers": (
        "Layers",
        sorted({"Sequential", *(getattr(layers, name).__name__ for name in layers.__all__)} - {"Parameter"}),
    ),
    "losses": (
        "Losses and optimizers",
        (*sorted(kind.__name__ for kind in losses.LOSSES.values()), *optimizers.__all__, "make_schedule"),
    ),
    "functions": (
        "Other functions",
        (
            *("summary", "sweep", "check_gradients", "lenet5", "lenet5_1998", "resnet8", "vgg_small", "to_mnist"),
            "Parameter",
        ),
    ),
}
STYLE = ".md-grid { max-width: 84rem; } .md-typeset pre > code { font-size: 0.75em; }"  # room for lines of 120
DEMO = """\
---
hide: [navigation, toc]
---
# LeNet-5 at work

This is `minicnn page` of a LeNet-5 that was trained on {data}. Draw a digit, look at every map and every unit, forward
and backward, and train it further. [Open it alone](demo/lenet.html){{ target=_blank }}: it is one file and asks nothing
from anywhere.

<iframe src="../demo/lenet.html" title="LeNet-5 at work" width="100%" height="800"></iframe>
"""


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages."""
    for name, (title, names) in REFERENCE.items():
        _add(files, config, f"reference/{name}.md", f"# {title}\n\n{_entries(names)}")
    _add(files, config, "first-steps.md", _notebook(ROOT / "examples" / "first_steps.ipynb"))
    page, data = _demo(config["extra"]["demo_run"])
    _add(files, config, "demo/lenet.html", page)
    _add(files, config, "demo.md", DEMO.format(data=data))
    _add(files, config, "site.css", STYLE)
    for path in sorted(path for path in _linked() if path.suffix != ".ipynb"):
        _add(files, config, _place(path), _source(path))
    return files


def on_page_markdown(markdown: str, page: Any, **rest: Any) -> str:
    """Links out of docs/ lead to the pages made from what they lead to."""
    return markdown if page.file.src_uri.startswith("source/") else _relinked(markdown, DOCS, "")


def _add(files: Files, config: Any, place: str, content: str) -> None:
    files.append(File.generated(config, place, content=content))


def _entries(names: Iterable[str]) -> str:
    found = (getattr(minicnn, name) for name in names)
    # Linear is Dense, and has the name of it.
    return "\n".join(dict.fromkeys(f"::: {thing.__module__}.{thing.__name__}" for thing in found)) + "\n"


def _linked() -> set[Path]:
    """The files and folders outside of docs/ that its pages link to, and the files of these folders."""
    found: set[Path] = set()
    for page in DOCS.glob("*.md"):
        for _, target in LINK.findall(page.read_text("utf-8")):
            path = (DOCS / target.partition("#")[0]).resolve()
            if ":" not in target and path.exists() and not path.is_relative_to(DOCS):
                found |= {path, *(path.glob("*.py") if path.is_dir() else ())}
    return found


def _place(path: Path) -> str:
    """The page that is made of a file or folder."""
    if path.suffix == ".ipynb":
        return "first-steps.md"
    return f"source/{path.relative_to(ROOT).as_posix()}.md"


def _relinked(text: str, folder: Path, up: str) -> str:
    """The text of a file in `folder`, for a page from which docs/ is at `up`."""

    def moved(link: re.Match[str]) -> str:
        words, target = link.groups()
        if re.match(r"\w+:|#", target):
            return link[0]
        name, mark, anchor = target.partition("#")
        path = (folder / name).resolve()
        if path.is_relative_to(DOCS):
            return f"{words}({up}{path.relative_to(DOCS).as_posix()}{mark}{anchor})"
        return f"{words}({up}{_place(path)})" if path in _linked() else words[1:-1]

    parts = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("```") else LINK.sub(moved, part) for part in parts)


def _source(path: Path) -> str:
    """The page of a file or folder."""
    up = "../" * _place(path).count("/")
    if path.suffix == ".md":
        return _relinked(path.read_text("utf-8"), path.parent, up)
    title = f"---\nsearch:\n  exclude: true\n---\n# {path.relative_to(ROOT).as_posix()}\n\n"
    if path.is_dir():
        return title + "\n".join(f"- [{file.name}]({path.name}/{file.name}.md)" for file in sorted(path.glob("*.py")))
    language = {".py": "python", ".yaml": "yaml"}.get(path.suffix, "text")
    return f"{title}````{language}\n{path.read_text('utf-8')}\n````\n"


def _notebook(path: Path) -> str:
    """A notebook as Markdown, with what its cells have printed and drawn."""
    parts = []
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(_relinked(text, path.parent, "") if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        parts += map(_output, cell.get("outputs", ()))
    return "\n\n".join(parts) + "\n"


def _output(found: Mapping[str, Any]) -> str:
    if "text" in found:
        return f"```text\n{''.join(found['text'])}```"
    picture = "".join(found["data"]["image/png"]).replace("\n", "")
    return f'<img alt="what the cell draws" src="data:image/png;base64,{picture}">'


def _demo(run: str | None) -> tuple[str, str]:
    """The page of a run, or of a training on mnist-subset; and on what it was trained."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        if run is None:
            run = str(Path(folder) / "LeNet-5")  # the title of the page
            data = load_dataset("mnist-subset")
            model = Model(lenet5().initialize("kaiming", rng=0), classes=data.classes, data_set=data.name)
            model.fit(data.train_images, data.train_labels, 6, schedule="one-cycle", verbose=False, folder=run)
        if cli.main(["page", run, "-o", str(page)]):
            raise SystemExit("the page of the demo could not be made")
        return page.read_text(encoding="utf-8"), minicnn.load(run).data_set or "images"
