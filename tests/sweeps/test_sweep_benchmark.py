"""benchmarks.sweep runs and reports what it measured; nothing here depends on how fast anything is."""

import json

from benchmarks import sweep


def test_a_quick_look(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sweep.driver, "most_threads", lambda: 2)
    sweep.run(sweep, ["--quick", "--json", str(tmp_path / "sweep.json")])
    out = capsys.readouterr().out
    result = json.loads((tmp_path / "sweep.json").read_text())["result"]
    assert result["together"]["seeds"] == len(result["together"]["accuracies"]) == 3
    assert len(result["alone"]) == 2
    assert all(value > 0 for value in (*result["alone"], result["together"]["per_second"], *result["first_result"]))
    assert all(0.5 < accuracy <= 1 for accuracy in result["together"]["accuracies"])
    assert "trainings a second" in out


def test_the_report():
    together = {"seeds": 200, "per_second": 3.8, "megabytes": [120.0, 140.4], "accuracies": [0.992, 0.994]}
    text = sweep.report({"cores": 2, "alone": [1.9, 2.1], "together": together, "first_result": [2.5, 2.75]})
    assert text.splitlines() == [
        "- 200 seeds of configs/speedrun.yaml, 2 workers: 3.800 trainings a second, 0.950 x 2 x 2.000, the rate of one "
        "alone (goal: at least 0.95)",
        "- first result: 2.50 - 2.75 s (goal: 3 s)",
        "- memory of a worker: at most 140 MB (goal: 250 MB)",
        "- accuracy: mean 99.300% +- 0.100% (standard error), std 0.141%, 99.20% - 99.40%",
    ]
