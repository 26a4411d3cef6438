"""One process at a time trains in the folder of a run, and nothing of that stays behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from minicnn.errors import MinicnnError
from minicnn.training.run_folder import LOCK, RunFolder

HOLD = """
import sys
from pathlib import Path
from minicnn.training.run_folder import RunFolder
with RunFolder.existing(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(MinicnnError, match="another process is training in this folder"):
            RunFolder.existing(tmp_path)
        process.kill()
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    with RunFolder.existing(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_free_after_the_block_and_gone_when_discarded(tmp_path: Path) -> None:
    with RunFolder.at(tmp_path / "run") as folder:
        folder.write_text("note", "one")
        with pytest.raises(MinicnnError, match="another process"):
            RunFolder.at(tmp_path / "run")
    assert [path.name for path in folder.path.iterdir()] == ["note"]
    with RunFolder.at(tmp_path / "run") as folder:
        folder.discard()
    assert list(tmp_path.iterdir()) == []
