from __future__ import annotations

import numpy as np
import pytest

from cvgeo.retrieval.heading import SHARED_FROM, single


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (3, 7), (100, 8, 64), (SHARED_FROM // 64, 64), (700, 512)])
def test_half_precision_is_widened_to_the_same_numbers(shape):
    rows = np.random.default_rng(0).standard_normal(shape).astype(np.float16)
    found = single(rows)
    assert found.dtype == np.float32 and np.array_equal(found, rows.astype(np.float32))


def test_rows_in_another_order_of_memory_are_widened_too():
    rows = np.asfortranarray(np.random.default_rng(0).standard_normal((50, 40)).astype(np.float16))
    assert np.array_equal(single(rows), rows.astype(np.float32))
