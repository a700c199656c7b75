"""Polar transform, panoramas and geodesy: pure functions over arrays, no files."""

from cvgeo.geometry.geodesy import (
    distance_m,
    latlon_to_map,
    map_to_latlon,
    map_to_pixel,
    move,
    offset_metres,
    pixel_to_map,
    tile_of,
    tile_position,
    web_mercator_resolution,
)
from cvgeo.geometry.opencv import import_cv2
from cvgeo.geometry.panorama import default_vfov, level_panorama, place_on_grid, roll_panorama
from cvgeo.geometry.polar import inverse_polar_transform, polar_grid, polar_transform, polar_transform_batch
from cvgeo.geometry.projections import PROJECTIONS, Camera, project_on_grid
from cvgeo.geometry.shapes import GeometryError, square

__all__ = [
    "PROJECTIONS",
    "Camera",
    "GeometryError",
    "default_vfov",
    "distance_m",
    "import_cv2",
    "inverse_polar_transform",
    "latlon_to_map",
    "level_panorama",
    "map_to_latlon",
    "map_to_pixel",
    "move",
    "offset_metres",
    "pixel_to_map",
    "place_on_grid",
    "polar_grid",
    "polar_transform",
    "polar_transform_batch",
    "project_on_grid",
    "roll_panorama",
    "square",
    "tile_of",
    "tile_position",
    "web_mercator_resolution",
]
