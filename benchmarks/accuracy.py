"""Time to accuracy: `python -m benchmarks.speedrun --seeds 20`, as a part of `python -m benchmarks`."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import Options, Result, Team, run

TITLE = "Time to accuracy"
DEFAULTS = Options(rounds=20, data="data")  # rounds are seeds here

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 300  # seconds


def measure(team: Team, options: Options) -> Result:
    """The result of benchmarks.speedrun, a process of its own; {"error": ...} where there is none, for lack of data."""
    print(f"training configs/speedrun.yaml, {options.rounds} seeds ...", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speedrun.json"
        command = [sys.executable, "-m", "benchmarks.speedrun", "--seeds", str(options.rounds)]
        command += ["--json", str(path), *(["--quick"] if options.quick else [])]
        command.append(f"data.root={Path(options.data or 'data').absolute()}")
        done = subprocess.run(
            command, cwd=ROOT, env=dict(os.environ) | team.environment, capture_output=True, text=True, timeout=PATIENCE
        )
        if done.returncode or not path.exists():
            return {"error": done.stderr.strip().rpartition("\n")[2]}
        result: Result = json.loads(path.read_text(encoding="utf-8"))
        return result


def report(result: Result) -> str:
    if "error" in result:
        return f"Not measured: {result['error']}"
    from benchmarks import speedrun

    return "\n".join(f"- {line}" for line in speedrun.report(result).splitlines())


if __name__ == "__main__":
    run(sys.modules[__name__])
