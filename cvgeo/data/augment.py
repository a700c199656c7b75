"""Augmentation of whole batches, on any device, synchronous in both views where the geometry asks for it.

What happens to a batch is drawn from (seed, epoch, batch) alone, so that a resumed run sees the same pictures as an
undisturbed one, whatever worker decoded them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cvgeo.config.schema import TrainConfig, ViewConfig

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
FULL_TURN = 360.0


@dataclass
class Draw:
    """What is done to the B samples of a batch.

    turn: heading in units of 360 / `steps` degrees by which both views are turned, (B,) int.
    mirror: mirrored about the north-south axis, (B,) bool.
    colour: (2, B, 6) factors of brightness, contrast, saturation and of the three channels, ground then aerial.
    erase: (2, B, 4) top, bottom, left, right of the hidden rectangle as shares of the height and width.
    posterise: (2, B) bool, four bits a channel are kept; None: nowhere (as for the following two).
    ground_turn: heading in shares of a full turn by which the ground view alone is turned, (B,).
    window: (B, 2) left edge and width of what the ground view keeps, in shares of its width.
    """

    turn: np.ndarray
    steps: int
    mirror: np.ndarray
    colour: np.ndarray
    erase: np.ndarray
    posterise: np.ndarray | None = None
    ground_turn: np.ndarray | None = None
    window: np.ndarray | None = None

    def take(self, some: slice) -> Draw:
        """What is done to some of the samples."""
        posterise, ground_turn, window = self.posterise, self.ground_turn, self.window
        return Draw(
            self.turn[some],
            self.steps,
            self.mirror[some],
            self.colour[:, some],
            self.erase[:, some],
            None if posterise is None else posterise[:, some],
            None if ground_turn is None else ground_turn[some],
            None if window is None else window[some],
        )


def turn_steps(view: ViewConfig) -> int:
    """In how many equal steps both views can be turned exactly together.

    Polar: every shift by whole columns of both grids. Plain tile: quarter turns (half turns where it is not square).
    """
    if view.aerial == "polar":
        return math.gcd(view.ground_width, view.aerial_width)
    return 4 if view.aerial_height == view.aerial_width else 2


def draw_augmentation(train: TrainConfig, view: ViewConfig, epoch: int, batch: int, size: int) -> Draw:
    """Draw what is done to batch number `batch` of an epoch, for `size` samples. A function of its arguments alone."""
    generator = np.random.default_rng([train.seed, epoch, 1, batch])
    steps = turn_steps(view)
    turn = generator.integers(steps, size=size) * (generator.random(size) < train.roll)
    mirror = generator.random(size) < train.flip
    spread = generator.uniform(-1, 1, (2, size, 6)) * train.photometric
    spread[..., 3:] /= 2
    colour, erase = 1 + spread, _draw_rectangles(generator, size, train.erase)
    colour[..., 2] *= generator.random((2, size)) >= train.greyscale
    posterise = generator.random((2, size)) < train.posterise
    ground_turn = generator.uniform(-1, 1, size) * train.heading_noise / FULL_TURN
    window = _draw_windows(generator, size, field_of_view(train, epoch), train)
    return Draw(turn, steps, mirror, colour, erase, posterise, ground_turn, window)


def _draw_windows(generator: np.random.Generator, size: int, degrees: float, train: TrainConfig) -> np.ndarray | None:
    left, kept = generator.random(size), np.full(size, degrees)
    if train.fov_mix > 0:
        wider = generator.uniform(degrees, max(degrees, train.fov_start), size)
        kept = np.where(generator.random(size) < train.fov_mix, wider, kept)
    return np.stack([left, kept / FULL_TURN], axis=1) if kept.min() < FULL_TURN else None


def field_of_view(train: TrainConfig, epoch: int) -> float:
    """Degrees that ground views keep in an epoch (from 0): from `fov_start` linearly to `fov_end` in `fov_epochs`.

    The curriculum of SinGeo (2026): the last of those epochs is the first with `fov_end`, and so are all after it.
    """
    last = (train.fov_epochs or train.epochs) - 1
    share = min(epoch / last, 1.0) if last > 0 else 1.0
    return train.fov_start + (train.fov_end - train.fov_start) * share


def _draw_rectangles(generator: np.random.Generator, size: int, probability: float) -> np.ndarray:
    area = generator.uniform(0.02, 0.2, (2, size)) * (generator.random((2, size)) < probability)
    aspect = np.exp(generator.uniform(-math.log(3), math.log(3), (2, size)))
    height, width = np.minimum(np.sqrt(area * aspect), 1), np.minimum(np.sqrt(area / aspect), 1)
    top, left = generator.random((2, 2, size)) * (1 - np.stack([height, width]))
    return np.stack([top, top + height, left, left + width], axis=-1)


def turned_columns(draw: Draw, width: int, column0_heading: float) -> np.ndarray:
    """Which column of a 360 degree picture each column of the augmented one shows: (B, width) int64.

    Turning by a heading a moves what was seen towards h to h - a. Mirroring comes first and maps heading h to -h.
    """
    columns = np.arange(width) + np.round(draw.turn[:, None] * (width / draw.steps)).astype(np.int64)
    axis = round(2 * column0_heading * width / 360)
    return np.where(draw.mirror[:, None], -1 - columns - axis, columns) % width


def take_columns(images: Tensor, columns: np.ndarray) -> Tensor:
    """images (B, H, W, ...) with the columns (B, W) picked for each sample."""
    picked = torch.as_tensor(columns, device=images.device)
    batch, height, width = images.shape[:3]
    corners = torch.arange(batch * height, device=images.device).view(batch, height, 1) * width
    index = (corners + picked[:, None, :]).reshape(-1)
    return images.reshape(batch * height * width, -1).index_select(0, index).view(images.shape)


def turn_tiles(tiles: Tensor, draw: Draw) -> Tensor:
    """Plain north-up tiles (B, S, S, 3), mirrored and turned as the panoramas are (a heading goes to heading - a)."""
    mirror = torch.as_tensor(draw.mirror, device=tiles.device)
    tiles = torch.where(mirror.view(-1, 1, 1, 1), tiles.flip(2), tiles)
    quarters = draw.turn * (4 // draw.steps)
    for quarter in (1, 2, 3):
        chosen = torch.as_tensor(np.flatnonzero(quarters == quarter), device=tiles.device)
        if len(chosen):
            tiles[chosen] = torch.rot90(tiles[chosen], quarter, (1, 2))
    return tiles


def change_geometry(
    ground: Tensor, mask: Tensor | None, aerial: Tensor, draw: Draw, view: ViewConfig
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Turn and mirror a batch of views, both by the same angle and axis.

    Args:
        ground: (B, H, W, 3) uint8 on the panorama grid, with its mask (B, H, W) bool or None.
        aerial: (B, h, w, 3) uint8, polar maps or plain tiles.
        draw: what to do.
        view: says which of both the aerial views are, and where column 0 looks.

    Returns:
        ground, mask and aerial, changed. What a picture does not see stays unseen and turns with it.
    """
    if not draw.turn.any() and not draw.mirror.any():
        return ground, mask, aerial
    columns = turned_columns(draw, ground.shape[2], view.column0_heading)
    ground = take_columns(ground, columns)
    mask = None if mask is None else take_columns(mask, columns)
    return ground, mask, turn_aerial(aerial, draw, view)


def turn_aerial(aerial: Tensor, draw: Draw, view: ViewConfig) -> Tensor:
    """The aerial views (B, h, w, 3) alone, turned and mirrored as `change_geometry` does it."""
    if not draw.turn.any() and not draw.mirror.any():
        return aerial
    if view.aerial == "polar":
        return take_columns(aerial, turned_columns(draw, aerial.shape[2], view.column0_heading))
    return turn_tiles(aerial, draw)


def turn_offsets(offsets: np.ndarray, draw: Draw) -> np.ndarray:
    """Offsets (B, 2), north and east, as they stand in views that were mirrored and turned by `change_geometry`."""
    angle = 2 * np.pi * draw.turn / draw.steps
    north, east = offsets[:, 0], np.where(draw.mirror, -offsets[:, 1], offsets[:, 1])
    turned = [north * np.cos(angle) + east * np.sin(angle), east * np.cos(angle) - north * np.sin(angle)]
    return np.stack(turned, axis=1)


def limit_view(ground: Tensor, mask: Tensor | None, draw: Draw) -> tuple[Tensor, Tensor | None]:
    """Ground views (B, H, W, 3) uint8 turned alone and reduced to a window of columns, and their mask (B, H, W).

    A picture of which the window would leave nothing keeps what it has.
    """
    width = ground.shape[2]
    if draw.ground_turn is not None and draw.ground_turn.any():
        columns = (np.arange(width) + np.rint(draw.ground_turn[:, None] * width).astype(np.int64)) % width
        ground = take_columns(ground, columns)
        mask = None if mask is None else take_columns(mask, columns)
    if draw.window is None:
        return ground, mask
    left, share = np.floor(draw.window[:, :1] * width), draw.window[:, 1:]
    inside = (np.arange(width)[None] - left) % width < np.maximum(np.rint(share * width), 1)
    seen = torch.as_tensor(inside, device=ground.device)[:, None, :].expand(ground.shape[:3])
    if mask is None:
        return ground, seen.contiguous()
    both = mask & seen
    return ground, torch.where(both.any(dim=(1, 2), keepdim=True), both, mask)


def keep_four_bits(images: Tensor, chosen: np.ndarray) -> Tensor:
    """Views (B, H, W, 3) uint8 of which the chosen ones (B,) are reduced to four bits a channel."""
    if not chosen.any():
        return images
    which = torch.as_tensor(chosen, device=images.device).view(-1, 1, 1, 1)
    return torch.where(which, images & 0xF0, images)


def change_colours(images: Tensor, mask: Tensor | None, factors: np.ndarray, view: ViewConfig) -> Tensor:
    """Change contrast, saturation, channels and brightness of normalised views by factors (B, 6) of `Draw.colour`.

    The four are one affine map of the colours of each picture; contrast is about the mean colour of the seen pixels.
    images (B, 3, H, W) float32; values stay within what a uint8 picture can hold, unseen pixels stay 0.
    """
    if np.all(factors == 1):
        return images
    mean, std = (torch.tensor(values, device=images.device) for values in (view.mean, view.std))
    factor = torch.tensor(factors, dtype=torch.float32, device=images.device)
    seen = None if mask is None else mask.sum((1, 2)).clamp(min=1)[:, None]
    own_mean = images.mean((2, 3)) if seen is None else images.sum((2, 3)) / seen
    own_mean = own_mean * std + mean
    saturation = factor[:, 2, None, None]
    grey = torch.tensor(LUMA, device=images.device).expand(3, 3)
    mix = saturation * torch.eye(3, device=images.device) + (1 - saturation) * grey
    mix = factor[:, 0, None, None] * factor[:, 3:, None] * mix
    matrix = mix * factor[:, 1, None, None]
    offset = torch.einsum("bij,bj->bi", mix, own_mean * (1 - factor[:, 1, None]))
    offset = (offset + matrix @ mean - mean) / std
    matrix = matrix * std[None, None, :] / std[None, :, None]
    changed = torch.einsum("bij,bjhw->bihw", matrix, images) + offset[:, :, None, None]
    low, high = (-mean / std).view(1, 3, 1, 1), ((1 - mean) / std).view(1, 3, 1, 1)
    changed = torch.minimum(torch.maximum(changed, low), high)
    return changed if mask is None else changed * mask[:, None]


def erase_rectangles(images: Tensor, rectangles: np.ndarray) -> Tensor:
    """Normalised views (B, 3, H, W) with a rectangle (top, bottom, left, right as shares, (B, 4)) of each set to 0."""
    if np.all(rectangles[:, 0] == rectangles[:, 1]):
        return images
    height, width = images.shape[2:]
    edges = torch.tensor(rectangles, dtype=torch.float32, device=images.device)[:, :, None]
    rows = (torch.arange(height, device=images.device) + 0.5) / height
    columns = (torch.arange(width, device=images.device) + 0.5) / width
    hidden_rows = (rows >= edges[:, 0]) & (rows < edges[:, 1])
    hidden_columns = (columns >= edges[:, 2]) & (columns < edges[:, 3])
    return images.masked_fill((hidden_rows[:, :, None] & hidden_columns[:, None, :])[:, None], 0.0)
