"""Geodesy against formulas of another kind: meridian integrals, chords through the ellipsoid, PROJ's projections."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvgeo.geometry import (
    GeometryError,
    distance_m,
    geodesy,
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

A, F = 6378137.0, 1 / 298.257223563
E2 = F * (2 - F)


def earth_centred(lat: float, lon: float) -> np.ndarray:
    phi, lam = math.radians(lat), math.radians(lon)
    normal = A / math.sqrt(1 - E2 * math.sin(phi) ** 2)
    return np.array(
        [
            normal * math.cos(phi) * math.cos(lam),
            normal * math.cos(phi) * math.sin(lam),
            normal * (1 - E2) * math.sin(phi),
        ]
    )


def meridian_arc(lat: float, lat2: float, steps: int = 20_000) -> float:
    phi = np.linspace(math.radians(lat), math.radians(lat2), steps + 1)
    radius = A * (1 - E2) / (1 - E2 * np.sin(phi) ** 2) ** 1.5
    return float(np.trapezoid(radius, phi))


places = st.tuples(st.floats(-89.9, 89.9), st.floats(-180, 180))


@given(place=places, north=st.floats(-5000, 5000), east=st.floats(-5000, 5000))
@settings(max_examples=200, deadline=None)
def test_move_and_offset_are_inverse(place, north, east):
    there = move(*place, north, east)
    np.testing.assert_allclose(offset_metres(*place, *there), (north, east), atol=2e-5)


@given(place=places, north=st.floats(-300, 300), east=st.floats(-300, 300))
@settings(max_examples=200, deadline=None)
def test_near_offsets_are_those_of_the_tangent_plane(place, north, east):
    lat, lon = place
    here, there = earth_centred(lat, lon), earth_centred(*(float(v) for v in move(lat, lon, north, east)))
    phi, lam = math.radians(lat), math.radians(lon)
    north_axis = np.array([-math.sin(phi) * math.cos(lam), -math.sin(phi) * math.sin(lam), math.cos(phi)])
    east_axis = np.array([-math.sin(lam), math.cos(lam), 0.0])
    # The plane is off by the cube of the distance over the earth's radius squared: under a micrometre here.
    assert (there - here) @ north_axis == pytest.approx(north, abs=1e-4)
    assert (there - here) @ east_axis == pytest.approx(east, abs=1e-4)


@pytest.mark.parametrize(("lat", "lat2"), [(0, 1), (37.7, 37.71), (-60, 60), (60, 60.001), (0, 90), (-90, 90)])
def test_along_a_meridian(lat, lat2):
    assert distance_m(lat, 12.0, lat2, 12.0) == pytest.approx(meridian_arc(lat, lat2), abs=0.02)


def test_along_the_equator():
    assert distance_m(0, 10, 0, 11) == pytest.approx(A * math.pi / 180, abs=1e-3)
    assert offset_metres(0, 10, 0, 11) == (pytest.approx(0, abs=1e-6), pytest.approx(A * math.pi / 180, abs=1e-3))


def test_a_surveyed_line():
    # Flinders Peak to Buninyong, Geoscience Australia's worked example (GRS80): 54972.271 m, 306 52 05.37.
    flinders = -(37 + 57 / 60 + 3.72030 / 3600), 144 + 25 / 60 + 29.52440 / 3600
    buninyong = -(37 + 39 / 60 + 10.15610 / 3600), 143 + 55 / 60 + 35.38390 / 3600
    assert distance_m(*flinders, *buninyong) == pytest.approx(54972.271, abs=1e-3)
    north, east = offset_metres(*flinders, *buninyong)
    assert math.degrees(math.atan2(east, north)) % 360 == pytest.approx(306 + 52 / 60 + 5.37 / 3600, abs=1e-5)


def test_across_the_date_line_and_the_pole():
    assert distance_m(10, 179.9995, 10, -179.9995) == pytest.approx(109.64, abs=0.01)
    assert offset_metres(10, 179.9995, 10, -179.9995)[1] > 0
    _, lon = move(10, 179.9999, 0, 100)
    assert -180 <= lon < -179.99
    north, _ = offset_metres(89.999, 0, 89.999, 180)
    assert north == pytest.approx(2 * 111.694, abs=0.01)
    np.testing.assert_allclose(move(90, 0, -1000, 0), (89.99104697, 0), atol=1e-8)


def test_the_same_place_and_the_opposite_one():
    assert distance_m(52, 5, 52, 5) == 0
    assert offset_metres(52, 5, 52, 5) == (0, 0)
    half_way_round = 20_003_931.4586
    assert distance_m(0.3, 0, -0.3, 179.9) == pytest.approx(half_way_round, rel=6e-3)


def test_columns_of_many_places_and_broadcasting():
    lat = np.array([[0.0], [60.0]])
    lon = np.array([0.0, 90.0, 179.0])
    distance = distance_m(lat, lon, lat + 0.01, lon)
    assert distance.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            assert distance[i, j] == pytest.approx(distance_m(lat[i, 0], lon[j], lat[i, 0] + 0.01, lon[j]), abs=1e-6)


def test_unknown_places_stay_unknown():
    distance = distance_m(np.array([np.nan, 1.0]), 0.0, 1.0, 0.0)
    assert np.isnan(distance[0])
    assert distance[1] == 0


@pytest.mark.parametrize("place", [(91.0, 0.0), (-90.5, 0.0), (0.0, 361.0), (122.4, 37.7)])
def test_places_out_of_range_are_refused(place):
    with pytest.raises(GeometryError, match="out of range"):
        distance_m(*place, 0.0, 0.0)
    with pytest.raises(GeometryError, match="out of range"):
        move(*place, 0.0, 0.0)


def test_known_tiles():
    # The tile of the Eiffel tower, and the ends of the scheme.
    x, y = tile_of(48.8584, 2.2945, 15)
    assert (int(x), int(y)) == (16592, 11272)
    np.testing.assert_allclose(tile_of(85.0511287798066, -180.0, 3), (0, 0), atol=1e-9)
    np.testing.assert_allclose(tile_of(0.0, 0.0, 1), (1, 1))


@given(lat=st.floats(-85, 85), lon=st.floats(-180, 180), zoom=st.integers(0, 22))
@settings(max_examples=100, deadline=None)
def test_tiles_and_positions_are_inverse(lat, lon, zoom):
    np.testing.assert_allclose(tile_position(*tile_of(lat, lon, zoom), zoom), (lat, lon), atol=1e-9)


def test_tiles_end_before_the_poles():
    with pytest.raises(GeometryError, match="85"):
        tile_of(86.0, 0.0, 3)


def test_web_mercator_resolution():
    assert web_mercator_resolution(0.0, 18) == pytest.approx(0.5972, abs=1e-4)
    assert web_mercator_resolution(37.7, 18) == pytest.approx(0.4725, abs=1e-4)
    assert web_mercator_resolution(37.7, 19, tile_size=512) == pytest.approx(0.4725 / 4, abs=1e-4)
    for lat in (0.0, 37.7, 60.0):
        x, y = tile_of(lat, 10.0, 18)
        lat2, lon2 = tile_position(x + 1, y, 18)
        true = distance_m(lat, 10.0, lat2, lon2) / 256
        assert web_mercator_resolution(lat, 18) == pytest.approx(float(true), rel=3.4e-3)


def test_pixels_and_map_coordinates():
    transform = (0.3, 0.02, 5000.0, 0.01, -0.3, 8000.0)
    x, y = pixel_to_map(transform, 10.5, np.array([0.5, 7.0]))
    assert x[0] == pytest.approx(0.3 * 0.5 + 0.02 * 10.5 + 5000)
    assert y[1] == pytest.approx(0.01 * 7 - 0.3 * 10.5 + 8000)
    row, col = map_to_pixel(transform, x, y)
    np.testing.assert_allclose(row, 10.5)
    np.testing.assert_allclose(col, [0.5, 7.0])
    with pytest.raises(GeometryError, match="inverse"):
        map_to_pixel((0, 0, 1, 0, 0, 1), 1, 1)


def test_rasterio_s_affine_is_taken():
    from affine import Affine

    x, y = pixel_to_map(Affine(2.0, 0, 100.0, 0, -2.0, 200.0), 3, 4)
    assert (x, y) == (108.0, 194.0)


@pytest.mark.parametrize(
    ("lat", "lon", "crs", "scale"),
    [(0.001, 9.0, "EPSG:32632", 0.9996), (60.0, 9.0, "EPSG:32632", 0.9996), (-33.9, 151.2, "EPSG:32756", None)],
)
def test_offsets_agree_with_utm(lat, lon, crs, scale):
    x, y = latlon_to_map(lat, lon, crs)
    there = move(lat, lon, 30.0, 40.0)
    x2, y2 = latlon_to_map(*there, crs)
    length = math.hypot(x2 - x, y2 - y)
    if scale is None:
        assert length == pytest.approx(50, rel=1e-3)
    else:
        assert length == pytest.approx(50 * scale, abs=1e-3)
        assert (x2 - x, y2 - y) == (pytest.approx(40 * scale, abs=0.01), pytest.approx(30 * scale, abs=0.01))


@pytest.mark.parametrize("crs", ["EPSG:32610", "EPSG:3857", "EPSG:28992", "EPSG:4326", "EPSG:3395"])
def test_map_coordinates_there_and_back(crs):
    lat, lon = (np.array([52.1, 52.3]), np.array([5.1, 5.3]))
    if crs == "EPSG:32610":
        lat, lon = np.array([37.7, 37.8]), np.array([-122.4, -122.5])
    back = map_to_latlon(*latlon_to_map(lat, lon, crs), crs)
    np.testing.assert_allclose(back, (lat, lon), atol=1e-7)


def test_web_mercator_metres_are_tile_fractions():
    x, y = latlon_to_map(37.7, -122.4, "EPSG:3857")
    world = 2 * math.pi * A
    np.testing.assert_allclose(((x / world + 0.5) * 8, (0.5 - y / world) * 8), tile_of(37.7, -122.4, 3), atol=1e-9)


def test_map_coordinates_of_nowhere():
    with pytest.raises(GeometryError, match="EPSG:999999"):
        map_to_latlon(1.0, 1.0, "EPSG:999999")
    with pytest.raises(GeometryError):
        map_to_latlon(1e30, 1.0, "EPSG:32633")
    with pytest.raises(GeometryError, match="out of range"):
        latlon_to_map(95.0, 0.0, "EPSG:32633")


def test_earth_centred_points_are_the_literal_ones() -> None:
    generator = np.random.default_rng(0)
    lat, lon = generator.uniform(-90, 90, 50), generator.uniform(-180, 180, 50)
    literal = np.stack([earth_centred(*place) for place in zip(lat, lon, strict=True)])
    np.testing.assert_allclose(geodesy.earth_centred(lat, lon), literal, atol=1e-6)


def test_straight_lines_of_some_kilometres_are_as_long_as_the_way_along_the_ground() -> None:
    generator = np.random.default_rng(0)
    lat, lon = generator.uniform(-89, 89, 200), generator.uniform(-180, 180, 200)
    lat2, lon2 = move(lat, lon, *generator.uniform(-3500, 3500, (2, 200)))
    straight = np.linalg.norm(geodesy.earth_centred(lat, lon) - geodesy.earth_centred(lat2, lon2), axis=1)
    np.testing.assert_allclose(straight, distance_m(lat, lon, lat2, lon2), atol=1e-3)


@pytest.mark.parametrize(
    ("lat", "lon", "axes"),
    [(48.1, 11.5, (40.0, 12.0, 30.0)), (-33.0, 151.2, (5.0, 5.0, 0.0)), (69.0, 19.0, (900.0, 20.0, 175.0))],
)
def test_ellipses_have_their_axes_and_run_counterclockwise(lat, lon, axes):
    (ring,) = geodesy.ellipse_rings(lat, lon, *axes)
    assert np.array_equal(ring[0], ring[-1]) and len(ring) == 65
    distance = distance_m(lat, lon, ring[:, 1], ring[:, 0])
    assert distance.max() == pytest.approx(axes[0], rel=1e-3) and distance.min() == pytest.approx(axes[1], rel=1e-3)
    north, east = offset_metres(lat, lon, *ring[np.argmax(distance), ::-1])
    assert abs((np.degrees(np.arctan2(east, north)) - axes[2] + 90) % 180 - 90) < 0.5 or axes[0] == axes[1]
    x, y = ring.T
    assert np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) > 0


@pytest.mark.parametrize("lon", [179.9995, -179.9995])
def test_an_ellipse_on_the_date_line_is_cut_there(lon):
    rings = geodesy.ellipse_rings(10.0, lon, 200.0, 100.0, 90.0)
    assert len(rings) == 2
    west, east = rings  # of the line
    assert west[:, 0].max() == 180 and west[:, 0].min() > 179 and east[:, 0].min() == -180 and east[:, 0].max() < -179
    assert all(np.array_equal(ring[0], ring[-1]) for ring in rings)
    for ring in rings:
        x, y = ring.T
        assert np.sum((x[:-1] - x[0]) * y[1:] - (x[1:] - x[0]) * y[:-1]) > 0
