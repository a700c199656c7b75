from __future__ import annotations

import gc

import pytest

from cvgeo.memory import collector_paused


def test_the_collector_rests_inside_and_works_again_outside_and_after_a_fault():
    assert gc.isenabled()
    with collector_paused():
        assert not gc.isenabled()
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError, match="a fault"), collector_paused():
        raise ValueError("a fault")
    assert gc.isenabled()
