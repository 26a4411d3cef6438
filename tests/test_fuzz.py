"""A few tries of tests/fuzz.py, which has as many as one likes."""

import pytest
from fuzz import fuzz


@pytest.mark.parametrize("first", [0, 1750, 3150])
def test_no_change_of_a_file_or_a_setting_is_a_fault(first: int) -> None:
    assert fuzz(range(first, first + 70)) == []
