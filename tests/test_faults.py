"""Each fault of tests/faults.py, survived by the real train.py in processes of its own."""

import faults
import pytest

pytestmark = pytest.mark.xdist_group("faults")  # one lab for all


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return faults.Lab(tmp_path_factory.mktemp("lab"), seed=0)


QUICK = ("killed", "torn_state")


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
                                  for name in faults.FAULTS])
def test_fault(lab, name):
    faults.FAULTS[name](lab)
