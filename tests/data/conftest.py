"""What tests of data sets share."""

from pathlib import Path

import pytest
from folders_of_images import write_all


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Eight images of two classes."""
    write_all(tmp_path / "images", {"cat": 4, "dog": 4})
    return tmp_path / "images"
