"""Real processes, really killed: what comes out in the end is, to the bit, what would have come without."""

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from stopped_runs import assert_same, figures, started, the_run, write_files


@pytest.mark.parametrize("seed", range(1))
def test_a_run_killed_at_random_moments(seed: int, tmp_path: Path, whole: tuple[Path, list[str]]) -> None:
    """Five times each: mostly SIGKILL, at the start, in the loop, while files are written, at the end."""
    rng = random.Random(seed)
    write_files(tmp_path)
    ends = [signal.SIGKILL] * 3 + [rng.choice([signal.SIGKILL, signal.SIGTERM]), signal.SIGINT]
    rng.shuffle(ends)
    lines: list[str] = []
    kills = 0
    while True:
        runs = list((tmp_path / "runs").glob("*"))
        if runs and not (runs[0] / "checkpoints/last.safetensors").exists():
            subprocess.run(["rm", "-r", str(runs[0])], check=True)  # killed before it began
            runs = []
        command = ["--resume", f"runs/{runs[0].name}"] if runs else ["small.yaml"]
        process = started(tmp_path, *command, f"training.threads={rng.choice(['1', 'null'])}")
        if kills < len(ends):
            at_start = rng.random() < 0.2
            assert process.stdout is not None
            head = "" if at_start else wait_for_training(process)
            time.sleep(rng.uniform(0, 1.5) if at_start else rng.uniform(0, 0.12))
            process.send_signal(ends[kills])
            lines += figures(head)
        out, err = process.communicate(timeout=120)
        lines += figures(out)
        if process.returncode == 0:
            if kills < len(ends):  # it was faster: once more, on a new run
                assert_same(the_run(tmp_path), whole[0])
                (tmp_path / "runs").rename(tmp_path / f"done-{kills}")
                lines = []
                continue
            break
        assert process.returncode in (-ends[kills], 130), err
        assert "Traceback" not in err
        kills += 1
    assert_same(the_run(tmp_path), whole[0])
    epochs = [line for line in lines if line.startswith("epoch")]
    # A line that was printed just before a kill may come again.
    assert list(dict.fromkeys(epochs)) == whole[1][:-1]
    assert lines[-1] == whole[1][-1]


def wait_for_training(process: "subprocess.Popen[str]") -> str:
    """Reads what it says until its first step."""
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if line.startswith(("arrays: ", "resumed after step ")):
            break
    return text
