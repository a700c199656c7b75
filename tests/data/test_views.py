import math

import numpy as np
import pytest
import torch

from cvgeo.config.schema import ViewConfig
from cvgeo.data.images import write_image
from cvgeo.data.schema import Conventions, Panoramas, Tiles
from cvgeo.data.views import AerialViews, GroundViews, WindowedViews, aerial_view, coarsen, ground_view, to_tensor
from cvgeo.errors import InputError
from cvgeo.geometry import Camera, polar_transform

VIEW = ViewConfig(ground_height=28, ground_width=72, aerial_height=28, aerial_width=72)
NOWHERE = {"vfov_top": math.nan, "vfov_bottom": math.nan}


def sphere_with_mark(heading: float, column0_heading: float, width: int = 720) -> np.ndarray:
    """A full sphere, dark but for a bright band of 10 degrees around a heading."""
    image = np.full((width // 2, width, 3), 20, dtype=np.uint8)
    headings = column0_heading + (np.arange(width) + 0.5) * 360 / width
    image[:, np.abs((headings - heading + 180) % 360 - 180) < 5] = 250
    return image


def bright_heading(image: np.ndarray, view: ViewConfig) -> float:
    column = image[..., 0].mean(axis=0).argmax()
    return (view.column0_heading + (column + 0.5) * 360 / image.shape[1]) % 360


@pytest.mark.parametrize("fit", ["place", "stretch"])
@pytest.mark.parametrize("column0_heading", [0.0, 90.0, 180.0, 237.5])
def test_heading_lands_in_its_column(fit, column0_heading):
    image = sphere_with_mark(62.5, column0_heading)
    view, mask = ground_view(image, VIEW, column0_heading=column0_heading, conventions=Conventions(fit=fit))
    assert view.shape == (28, 72, 3) and view.dtype == np.uint8 and mask.all()
    assert abs(bright_heading(view, VIEW) - 62.5) <= 5


def test_both_views_put_a_direction_into_the_same_column():
    # A tile with a bright wedge to the east, a panorama with a bright band to the east.
    rows, cols = np.mgrid[:201, :201] - 100.0
    tile = np.full((201, 201, 3), 20, dtype=np.uint8)
    tile[(cols > 0) & (np.abs(rows) < 0.08 * cols)] = 250
    ground, _ = ground_view(sphere_with_mark(90, 33.0), VIEW, column0_heading=33.0)
    difference = ground[..., 0].mean(axis=0).argmax() - aerial_view(tile, VIEW)[:14, :, 0].mean(axis=0).argmax()
    assert abs(difference) <= 1


def test_unknown_heading_leaves_the_picture():
    image = sphere_with_mark(10.0, VIEW.column0_heading)
    known, _ = ground_view(image, VIEW, column0_heading=VIEW.column0_heading)
    unknown, _ = ground_view(image, VIEW)
    assert np.array_equal(known, unknown)


def test_narrow_picture_is_masked_and_filled_with_the_mean():
    photo = np.full((60, 80, 3), 200, dtype=np.uint8)
    view, mask = ground_view(photo, VIEW, column0_heading=0.0, hfov=90.0)
    assert abs(mask.mean() - 0.25 * 67.5 / 90) < 0.02
    assert (view[~mask] == np.rint(np.asarray(VIEW.mean) * 255)).all()
    assert (view[mask] > 190).mean() > 0.9
    seen = np.flatnonzero(mask.any(axis=0))
    headings = (VIEW.column0_heading + (seen + 0.5) * 5) % 360
    assert headings.min() > 0 and headings.max() < 90


def test_strip_of_unknown_height_has_square_angular_pixels():
    strip = np.full((112, 616, 3), 200, dtype=np.uint8)
    _, mask = ground_view(strip, VIEW, column0_heading=180.0, **NOWHERE)
    elevation = 360 * 112 / 616 / 2
    assert abs(mask.any(axis=1).mean() - elevation / 45) <= 2 / 28


def test_rows_of_the_convention_are_cropped_in_proportion():
    image = np.zeros((416, 832, 3), dtype=np.uint8)
    image[104:312] = 255
    view, _ = ground_view(image, VIEW, column0_heading=180.0, conventions=Conventions("stretch", (208, 624, 832)))
    assert view.min() == 255


def test_coarsened_pictures_give_the_same_view():
    image = sphere_with_mark(62.5, 0.0, width=2880)
    small = coarsen(image, VIEW, Camera())
    assert small.shape == (144, 288, 3)
    assert coarsen(small, VIEW, Camera()) is small
    views = [ground_view(one, VIEW, column0_heading=0.0)[0].astype(int) for one in (image, small)]
    assert np.abs(views[0] - views[1]).max() <= 2


def test_plain_aerial_view_is_the_resized_tile():
    plain = ViewConfig(aerial="plain", aerial_height=32, aerial_width=32)
    tile = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    expected = tile.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    assert np.abs(aerial_view(tile, plain) - expected).max() <= 1


def test_polar_aerial_view_takes_the_views_convention():
    tile = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    view = ViewConfig(aerial_height=28, aerial_width=72, polar_convention="safa", column0_heading=90.0)
    assert np.array_equal(aerial_view(tile, view), polar_transform(tile, 28, 72, "safa", 90.0))


def test_tensor_is_normalised_and_zero_where_unseen():
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    mask = np.ones((2, 4, 6), dtype=bool)
    mask[0, 1:3, 2:] = False
    tensor = to_tensor(images, mask, VIEW)
    assert tensor.shape == (2, 3, 4, 6) and tensor.dtype == torch.float32
    for (b, y, x), seen in np.ndenumerate(mask):
        for c in range(3):
            expected = (images[b, y, x, c] / 255 - VIEW.mean[c]) / VIEW.std[c] if seen else 0.0
            assert abs(float(tensor[b, c, y, x]) - expected) < 1e-5


def test_views_of_tables_give_errors_in_place_of_broken_pictures(tmp_path):
    good, broken, oblong = tmp_path / "good.png", tmp_path / "broken.png", tmp_path / "oblong.png"
    write_image(good, np.zeros((40, 80, 3), dtype=np.uint8))
    broken.write_bytes(good.read_bytes()[:60])
    write_image(oblong, np.zeros((40, 60, 3), dtype=np.uint8))
    ground = GroundViews(Panoramas(["a", "b"], [good, broken]), VIEW, Conventions())
    assert len(ground) == 2 and ground[0][0].shape == (28, 72, 3)
    assert isinstance(ground[1], InputError) and "broken.png" in str(ground[1])
    aerial = AerialViews(Tiles(["a"], [oblong]), VIEW)
    assert isinstance(aerial[0], InputError) and "oblong.png" in str(aerial[0])


def test_a_tile_far_from_square_is_one_fault_and_one_mend(tmp_path):
    path = tmp_path / "wide.png"
    write_image(path, np.zeros((20, 40, 3), np.uint8))
    error = AerialViews(Tiles(["a"], [path]), VIEW)[0]
    assert str(error) == f"{path}: 40x20 pixels is too far from square; crop it to 20x20 around the position"


def test_a_window_of_headings_is_kept(tmp_path):
    write_image(tmp_path / "a.png", np.full((64, 128, 3), 250, dtype=np.uint8))
    count, nan = 3, np.full(3, np.nan)
    table = Panoramas(["a", "b", "c"], [tmp_path / "a.png"] * 3, nan, nan, np.zeros(count), np.full(count, 360.0))
    table.hfov[2] = 60.0
    views = WindowedViews(GroundViews(table, VIEW, Conventions()), np.array([10.0, 330.0, 200.0]), 90.0)
    width = VIEW.ground_width
    headings = (VIEW.column0_heading + 360 * (np.arange(width) + 0.5) / width) % 360
    for item, expected in ((0, (headings > 10) & (headings < 100)), (1, (headings > 330) | (headings < 60))):
        image, mask = views[item]
        np.testing.assert_array_equal(mask.any(axis=0), expected)
        assert (image[mask] > 240).all() and (image[~mask] == np.rint(np.asarray(VIEW.mean) * 255)).all()
    # The third looks elsewhere: of it the window would leave nothing.
    assert len(views) == 3 and views[2][1].any()
    (tmp_path / "a.png").write_bytes(b"broken")
    assert isinstance(views[0], InputError)
