"""RESULTS.json, which keeps what was measured with each set of instructions, and RESULTS.md, which is made of it.

RESULTS.json is {isa: {"machine": facts, "quick": whether it was but a look, "parts": {benchmark: {"date",
"load_before", "minutes", and "result" or "error"}}}}.
"""

import importlib
import json
from pathlib import Path

from benchmarks import plots, targets
from benchmarks.harness import Result, describe, warning, write_json
from benchmarks.isa import ISAS

NAMES = (
    *("training", "evaluation", "textbook", "scaling", "busy", "kernels"),
    *("startup", "compiling", "others", "accuracy"),
)
NOTE = (
    "Two threads each unless it says otherwise. PyTorch is eager, as everybody writes it (NCHW, SGD); tuned: "
    "`channels_last` and `SGD(fused=True)`. All have their data in memory and take the same batches; before "
    "anything is timed, their losses have to agree."
)
VOLATILE = ("date", "load_before")  # of a machine: what differs from one run to the next


def read(folder: Path) -> Result:
    """What is there; nothing of files that are not like these."""
    path = folder / "RESULTS.json"
    if not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return {isa: found[isa] for isa in ISAS if isa in found and "parts" in found[isa]}


def of_machine(everything: Result, machine: Result, quick: bool) -> Result:
    """Where the parts of this run go; those of another machine, or of other versions, are dropped."""
    isa, entry = machine["isa"], {"machine": machine, "quick": quick, "parts": {}}
    before = everything.get(isa)
    if before and before["quick"] == quick and _lasting(before["machine"]) == _lasting(machine):
        entry["parts"] = before["parts"]
    everything[isa] = entry
    return entry


def _lasting(machine: Result) -> Result:
    return {key: value for key, value in machine.items() if key not in VOLATILE}


def write(folder: Path, everything: Result) -> None:
    write_json(folder / "RESULTS.json", _in_order(everything))


def _in_order(everything: Result) -> Result:
    return {isa: everything[isa] for isa in ISAS if isa in everything}


def write_text(folder: Path, everything: Result) -> Path:
    """RESULTS.md, and its plots."""
    everything = _in_order(everything)
    measured = {
        isa: {name: part["result"] for name, part in entry["parts"].items() if "result" in part}
        for isa, entry in everything.items()
    }
    wide = {isa: entry["machine"]["minicnn"]["wide"] for isa, entry in everything.items()}
    text = ["# Results", "Written by `python -m benchmarks`.", NOTE]
    if any(entry["quick"] for entry in everything.values()):
        text.insert(1, "**A quick look: these figures mean nothing.**")
    for isa, entry in everything.items():
        minutes = sum(part["minutes"] for part in entry["parts"].values())
        text.append(f"- {isa}, in {minutes:.1f} minutes: {describe(entry['machine'])}")
    text.append(f"## To reach\n\n{targets.report(measured, wide)}")
    for isa, results in measured.items():
        text += [f"![{path.stem}]({path.name})" for path in plots.draw(results, folder, isa)]
    for name in NAMES:
        if any(name in entry["parts"] for entry in everything.values()):
            text.append(_section(name, everything))
    path = folder / "RESULTS.md"
    path.write_text("\n\n".join(filter(None, text)) + "\n", encoding="utf-8")
    return path


def _section(name: str, everything: Result) -> str:
    benchmark = importlib.import_module(f"benchmarks.{name}")
    text = [f"## {benchmark.TITLE}"]
    for isa, entry in everything.items():
        if (part := entry["parts"].get(name)) is None:
            continue
        option = "" if isa == ISAS[0] else f" --isa {isa}"
        text.append(f"### {benchmark.TITLE}, {isa}\n\n`python -m benchmarks.{name}{option}`")
        if part["date"] != entry["machine"]["date"]:
            text.append(f"Measured on {part['date']}.")
        text.append(warning(part["load_before"]))
        text.append(f"**Not measured: {part['error']}**" if "error" in part else benchmark.report(part["result"]))
    return "\n\n".join(filter(None, text))
