from __future__ import annotations

import cv2
import numpy as np
import pytest

from cvgeo.geometry.shapes import FOURTH_CHANNEL_PAYS, gather, sample


def _drawn(side: int, height: int, width: int, channels: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(side)
    image = generator.integers(0, 256, (side, side, channels), dtype=np.uint8)
    cols, rows = (generator.uniform(-2, side + 1, (height, width)).astype(np.float32) for _ in range(2))
    return image, cols, rows


@pytest.mark.parametrize("clamp", [True, False])
@pytest.mark.parametrize("side", [8, 40, 200])  # the last is too large for a fourth channel to pay
def test_samples_of_colour_are_those_of_each_channel_alone(side, clamp):
    image, cols, rows = _drawn(side, 20, 30)
    assert (side**2 > FOURTH_CHANNEL_PAYS * cols.size) is (side == 200)
    border = cv2.BORDER_REPLICATE if clamp else cv2.BORDER_CONSTANT
    alone = [
        cv2.remap(np.ascontiguousarray(image[..., k]), cols, rows, cv2.INTER_LINEAR, borderMode=border)
        for k in range(3)
    ]
    found = sample(image, cols, rows, clamp)
    assert found.flags.c_contiguous and np.array_equal(found, np.stack(alone, axis=-1))


@pytest.mark.parametrize("clamp", [True, False])
@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (2, np.uint8), (3, np.uint16), (4, np.float64)])
def test_samples_agree_with_the_plain_formula(channels, dtype, clamp):
    image, cols, rows = _drawn(12, 9, 11, channels)
    image = image.astype(dtype)
    difference = sample(image, cols, rows, clamp).astype(float) - gather(image, cols, rows, clamp).astype(float)
    assert np.abs(difference).max() <= 1
