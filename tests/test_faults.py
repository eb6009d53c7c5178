"""Each fault of tests/faults.py, survived by the real train.py in processes of its own."""

import faults
import pytest

pytestmark = pytest.mark.xdist_group("faults")  # one lab for all


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return faults.Lab(tmp_path_factory.mktemp("lab"), seed=0)


SLOW = ("asked_to_save", "file_that_kills", "live_view_fails", "disk_stays_full", "second_run", "stall", "worker_hangs")


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
                                  for name in faults.FAULTS])
def test_fault(lab, name):
    faults.FAULTS[name](lab)
