"""The notebook's cells, run in turn, print what stands below them."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parent.parent / "examples" / "first_steps.ipynb"


@pytest.fixture
def cells() -> list[dict[str, Any]]:
    return [c for c in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]


def test_cells_print_what_stands_below_them(
    cells: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import matplotlib.pyplot as plt

    shown: list[int] = []
    monkeypatch.setattr(plt, "show", lambda: (shown.extend(plt.get_fignums()), plt.close("all")))
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    namespace: dict[str, Any] = {"__name__": "notebook"}
    for number, cell in enumerate(cells):
        shown.clear()
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), namespace)
        stored = cell["outputs"]
        assert printed.getvalue() == "".join("".join(o["text"]) for o in stored if o["output_type"] == "stream"), number
        assert len(shown) == sum("image/png" in o.get("data", {}) for o in stored), number


def test_it_was_run_from_top_to_bottom_and_is_small(cells: list[dict[str, Any]]) -> None:
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert NOTEBOOK.stat().st_size < 150_000
