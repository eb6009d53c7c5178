"""Each fault of tests/faults.py, survived by the real train.py in processes of its own."""

import faults
import pytest

TRIES = {"killed": 2}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return faults.Lab(tmp_path_factory.mktemp("lab"), seed=0)


@pytest.mark.parametrize("name", [name for name in faults.FAULTS for _ in range(TRIES.get(name, 1))])
def test_fault(lab, name):
    faults.FAULTS[name](lab)
