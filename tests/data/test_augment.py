from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cvgeo.config.schema import TrainConfig, ViewConfig
from cvgeo.data.augment import (
    Draw,
    change_colours,
    change_geometry,
    draw_augmentation,
    erase_rectangles,
    field_of_view,
    keep_four_bits,
    limit_view,
    turn_aerial,
    turn_offsets,
    turn_steps,
    turn_tiles,
    turned_columns,
)
from cvgeo.data.views import to_tensor

VIEW = ViewConfig(ground_height=6, ground_width=24, aerial_height=6, aerial_width=24)
PLAIN = ViewConfig(ground_height=6, ground_width=24, aerial="plain", aerial_height=16, aerial_width=16)


def drawn(turn: list[int], mirror: list[bool], steps: int) -> Draw:
    size = len(turn)
    return Draw(np.array(turn), steps, np.array(mirror), np.ones((2, size, 6)), np.zeros((2, size, 4)))


def column_headings(width: int, column0_heading: float) -> np.ndarray:
    return (column0_heading + 360 * (np.arange(width) + 0.5) / width) % 360


@pytest.mark.parametrize("column0_heading", [0.0, 90.0, 180.0, 45.0])
@pytest.mark.parametrize(("turn", "mirror"), [(0, False), (5, False), (0, True), (7, True), (23, True)])
def test_turning_and_mirroring_move_headings_as_said(column0_heading: float, turn: int, mirror: bool) -> None:
    width, steps = 24, 24
    seen = column_headings(width, column0_heading)
    moved = seen[turned_columns(drawn([turn], [mirror], steps), width, column0_heading)[0]]
    expected = seen + 360 * turn / steps
    np.testing.assert_allclose(np.cos(np.radians(moved - (-expected if mirror else expected))), 1, atol=1e-9)


def heading_picture(height: int, width: int, column0_heading: float) -> torch.Tensor:
    heading = column_headings(width, column0_heading)
    return torch.tensor(np.repeat((heading / 2)[None, :, None], 3, 2), dtype=torch.uint8).expand(height, -1, -1)


@given(st.integers(0, 11), st.booleans(), st.sampled_from([0.0, 90.0, 180.0]))
def test_both_views_of_different_widths_stay_in_step(turn: int, mirror: bool, column0_heading: float) -> None:
    view = ViewConfig(
        ground_height=4, ground_width=24, aerial_height=4, aerial_width=12, column0_heading=column0_heading
    )
    assert turn_steps(view) == 12
    ground, aerial = (heading_picture(4, width, column0_heading)[None] for width in (24, 12))
    mask = ground[..., 0] > 60
    new_ground, new_mask, new_aerial = change_geometry(ground, mask, aerial, drawn([turn], [mirror], 12), view)
    # Two ground columns lie in each aerial one.
    pairs = new_ground[0, 0, :, 0].view(12, 2).float().mean(1)
    assert (pairs - new_aerial[0, 0, :, 0]).abs().max() <= 1.5
    assert torch.equal(new_mask, new_ground[..., 0] > 60)


def north_tile(size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
@pytest.mark.parametrize("mirror", [False, True])
def test_a_plain_tile_turns_as_its_panorama(turn: int, mirror: bool) -> None:
    size = 16
    row, column = np.mgrid[:size, :size] - (size - 1) / 2
    heading = np.degrees(np.arctan2(column, -row)) % 360
    encoded = np.stack([np.cos(np.radians(heading)), np.sin(np.radians(heading)), heading * 0], -1)
    tile = torch.tensor(np.rint(encoded * 100 + 128), dtype=torch.uint8)
    turned = turn_tiles(tile[None].clone(), drawn([turn], [mirror], 4))[0].numpy().astype(float)
    seen = np.degrees(np.arctan2(turned[..., 1] - 128, turned[..., 0] - 128))
    source = heading + 90 * turn
    expected = -source if mirror else source
    assert np.cos(np.radians(seen - expected)).min() > np.cos(np.radians(1.0))


def test_an_oblong_tile_turns_by_half_turns_only() -> None:
    view = ViewConfig(aerial="plain", aerial_height=8, aerial_width=12)
    assert turn_steps(view) == 2
    tile = torch.arange(2 * 8 * 12 * 3).view(2, 8, 12, 3).to(torch.uint8)
    turned = turn_tiles(tile.clone(), drawn([0, 1], [False, False], 2))
    assert torch.equal(turned[0], tile[0])
    assert torch.equal(turned[1], tile[1].flip((0, 1)))


def test_each_sample_of_a_batch_is_turned_by_its_own_angle() -> None:
    generator = np.random.default_rng(0)
    ground, aerial = (torch.tensor(generator.integers(0, 256, (3, 6, 24, 3), dtype=np.uint8)) for _ in range(2))
    draw = drawn([3, 0, 20], [False, True, True], 24)
    new_ground, mask, new_aerial = change_geometry(ground, None, aerial, draw, VIEW)
    assert mask is None
    for index in range(3):
        one = drawn([int(draw.turn[index])], [bool(draw.mirror[index])], 24)
        alone = change_geometry(ground[index : index + 1], None, aerial[index : index + 1], one, VIEW)
        assert torch.equal(new_ground[index], alone[0][0])
        assert torch.equal(new_aerial[index], alone[2][0])


def test_no_augmentation_leaves_the_very_tensors() -> None:
    draw = draw_augmentation(TrainConfig(), VIEW, 0, 0, 4)
    ground, aerial = torch.zeros(4, 6, 24, 3, dtype=torch.uint8), torch.zeros(4, 6, 24, 3, dtype=torch.uint8)
    changed = change_geometry(ground, None, aerial, draw, VIEW)
    assert all(a is b for a, b in zip(changed, (ground, None, aerial), strict=True))
    images = torch.randn(4, 3, 6, 24)
    assert change_colours(images, None, draw.colour[0], VIEW) is images
    assert erase_rectangles(images, draw.erase[0]) is images


def test_draws_are_a_function_of_seed_epoch_and_batch() -> None:
    train = TrainConfig(roll=0.7, flip=0.5, photometric=0.3, erase=0.5, seed=4)
    first, again = (draw_augmentation(train, VIEW, 2, 9, 16) for _ in range(2))
    for name in ("turn", "mirror", "colour", "erase"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    for epoch, batch in ((2, 8), (3, 9)):
        assert not np.array_equal(first.colour, draw_augmentation(train, VIEW, epoch, batch, 16).colour)


def test_probabilities_and_ranges_of_draws() -> None:
    train = TrainConfig(roll=0.25, flip=0.5, photometric=0.2, erase=0.1)
    draw = draw_augmentation(train, VIEW, 0, 0, 20000)
    assert np.mean(draw.turn != 0) == pytest.approx(0.25 * 23 / 24, abs=0.015)
    assert draw.turn.min() == 0
    assert draw.turn.max() == 23
    assert draw.mirror.mean() == pytest.approx(0.5, abs=0.015)
    assert abs(draw.colour[..., :3] - 1).max() <= 0.2
    assert abs(draw.colour[..., 3:] - 1).max() <= 0.1
    top, bottom, left, right = np.moveaxis(draw.erase, -1, 0)
    hidden = (bottom > top) & (right > left)
    assert hidden.mean() == pytest.approx(0.1, abs=0.01)
    assert top.min() >= 0
    assert left.min() >= 0
    assert bottom.max() <= 1
    assert right.max() <= 1
    area = ((bottom - top) * (right - left))[hidden]
    assert area.min() > 0.019
    assert area.max() < 0.201


def literal_colours(picture: np.ndarray, seen: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Contrast, then saturation, then channels, then brightness, pixel by pixel, of (H, W, 3) in 0..1."""
    brightness, contrast, saturation, *channels = factors
    mean = picture[seen].mean(0)
    out = np.zeros_like(picture)
    for row, column in np.ndindex(*picture.shape[:2]):
        colour = mean + contrast * (picture[row, column] - mean)
        grey = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
        colour = grey + saturation * (colour - grey)
        out[row, column] = np.clip(brightness * np.array(channels) * colour, 0, 1)
    return out


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_colours_agree_with_the_literal_steps(seed: int, masked: bool) -> None:
    generator = np.random.default_rng(seed)
    pictures = generator.integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    mask = generator.random((2, 5, 7)) < 0.6
    mask[:, 0, 0] = True
    factors = generator.uniform(0.5, 1.5, (2, 6))
    given_mask = torch.tensor(mask) if masked else None
    changed = change_colours(to_tensor(pictures, given_mask, VIEW), given_mask, factors, VIEW).numpy()
    for index in range(2):
        seen = mask[index] if masked else np.ones((5, 7), bool)
        literal = literal_colours(pictures[index] / 255.0, seen, factors[index])
        normalised = ((literal - VIEW.mean) / VIEW.std) * seen[..., None]
        np.testing.assert_allclose(changed[index], normalised.transpose(2, 0, 1), atol=2e-5)


def test_erased_rectangles_agree_with_a_loop() -> None:
    images = torch.randn(2, 3, 10, 20) + 5
    rectangles = np.array([[0.1, 0.5, 0.25, 0.75], [0.0, 0.0, 0.3, 0.3]])
    erased = erase_rectangles(images, rectangles)
    for index, (top, bottom, left, right) in enumerate(rectangles):
        for row, column in np.ndindex(10, 20):
            inside = top <= (row + 0.5) / 10 < bottom and left <= (column + 0.5) / 20 < right
            expected = torch.zeros(3) if inside else images[index, :, row, column]
            assert torch.equal(erased[index, :, row, column], expected)


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
@pytest.mark.parametrize("mirror", [False, True])
def test_an_offset_turns_as_its_tile(turn: int, mirror: bool) -> None:
    size, north, east = 16, 5, -3
    tile = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    tile[0, size // 2 - 1 - north, size // 2 + east] = 255
    draw = drawn([turn], [mirror], 4)
    row, column = (int(one) for one in turn_tiles(tile, draw)[0, :, :, 0].nonzero()[0])
    shown = [size / 2 - row - 0.5, column + 0.5 - size / 2]
    np.testing.assert_allclose(turn_offsets(np.array([[north + 0.5, east + 0.5]]), draw)[0], shown, atol=1e-9)


@given(st.integers(0, 23), st.booleans())
def test_an_offset_keeps_to_the_heading_it_had_in_the_panorama(turn: int, mirror: bool) -> None:
    draw = drawn([turn], [mirror], 24)
    columns = turned_columns(draw, 24, 180.0)[0]
    heading = column_headings(24, 180.0)
    for shown, was in zip(heading, heading[columns], strict=True):
        offset = np.array([[np.cos(np.radians(was)), np.sin(np.radians(was))]])
        north, east = turn_offsets(offset, draw)[0]
        assert np.degrees(np.arctan2(east, north)) % 360 == pytest.approx(shown, abs=1e-6)


def test_the_field_of_view_shrinks_linearly() -> None:
    train = TrainConfig(epochs=11, fov_start=360.0, fov_end=70.0)
    assert [field_of_view(train, epoch) for epoch in (0, 5, 10)] == pytest.approx([360, 215, 70])
    train = TrainConfig(epochs=30, fov_start=300.0, fov_end=100.0, fov_epochs=5)
    assert [field_of_view(train, epoch) for epoch in (0, 1, 4, 5, 29)] == pytest.approx([300, 250, 100, 100, 100])
    assert field_of_view(TrainConfig(epochs=1, fov_end=90.0), 0) == 90
    assert field_of_view(TrainConfig(), 7) == 360


@pytest.mark.parametrize("masked", [False, True])
def test_a_limited_view_agrees_with_a_loop(masked: bool) -> None:
    width, height, size = 24, 6, 40
    generator = np.random.default_rng(3)
    ground = torch.tensor(generator.integers(0, 256, (size, height, width, 3), dtype=np.uint8))
    mask = torch.zeros(size, height, width, dtype=torch.bool)
    mask[:, 1:, :9] = True
    train = TrainConfig(fov_start=75.0, fov_end=75.0, heading_noise=180.0)
    draw = draw_augmentation(train, VIEW, 3, 5, size)
    seen, seen_mask = limit_view(ground, mask if masked else None, draw)
    starts = set()
    for index in range(size):
        shift = round(draw.ground_turn[index] * width)
        start = int(draw.window[index, 0] * width)
        starts.add(start)
        own = torch.zeros(height, width, dtype=torch.bool)
        turned = torch.ones(height, width, dtype=torch.bool)
        for column in range(width):
            source = (column + shift) % width
            assert torch.equal(seen[index, :, column], ground[index, :, source])
            if masked:
                turned[:, column] = mask[index, :, source]
            if (column - start) % width < 5:  # 75 of 360 degrees of 24 columns
                own[:, column] = turned[:, column]
        assert torch.equal(seen_mask[index], own if own.any() else turned)
    assert len(starts) > 15


def test_heading_noise_stays_within_its_degrees() -> None:
    turns = draw_augmentation(TrainConfig(heading_noise=20.0), VIEW, 0, 0, 5000).ground_turn * 360
    assert turns.min() == pytest.approx(-20, abs=0.1)
    assert turns.max() == pytest.approx(20, abs=0.1)


def test_nothing_is_limited_unless_asked_for() -> None:
    ground = torch.zeros(4, 6, 24, 3, dtype=torch.uint8)
    draw = draw_augmentation(TrainConfig(), VIEW, 0, 0, 4)
    assert limit_view(ground, None, draw)[0] is ground
    assert limit_view(ground, None, draw)[1] is None
    assert keep_four_bits(ground, draw.posterise[0]) is ground
    assert turn_aerial(ground, draw, VIEW) is ground


def test_greyscale_and_posterised_views_are_drawn_by_their_probability() -> None:
    draw = draw_augmentation(TrainConfig(greyscale=0.3, posterise=0.2), VIEW, 0, 0, 20000)
    assert np.mean(draw.colour[..., 2] == 0) == pytest.approx(0.3, abs=0.01)
    assert draw.posterise.mean() == pytest.approx(0.2, abs=0.01)
    images = torch.arange(256, dtype=torch.uint8).view(2, 16, 8, 1).expand(2, 16, 8, 3)
    kept = keep_four_bits(images, np.array([True, False]))
    assert torch.equal(kept[0], images[0] // 16 * 16)
    assert torch.equal(kept[1], images[1])


def test_some_views_keep_more_than_their_epochs_field_of_view():
    view = ViewConfig(ground_height=2, ground_width=36, aerial_height=2, aerial_width=36)
    curriculum = {"fov_start": 360.0, "fov_end": 90.0, "epochs": 4}
    plain = draw_augmentation(TrainConfig(**curriculum), view, 3, 0, 400)
    mixed = draw_augmentation(TrainConfig(**curriculum, fov_mix=0.5), view, 3, 0, 400)
    assert (plain.window[:, 1] == 0.25).all() and (plain.window[:, 0] == mixed.window[:, 0]).all()
    wider = mixed.window[mixed.window[:, 1] > 0.25, 1]
    assert 120 < len(wider) < 280 and wider.max() <= 1 and wider.max() > 0.9
    assert draw_augmentation(TrainConfig(**curriculum, fov_mix=0.5), view, 0, 0, 4).window is None
