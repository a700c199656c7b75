import numpy as np
import pytest

from cvgeo.errors import InputError
from cvgeo.pipelines.refine import climb
from cvgeo.retrieval.locate import AXES_SD, ellipses


def hill(north, east, north_width=12.0, east_width=12.0):
    """A model of known response: the score falls with the square of the distance from the place."""
    seen = []

    def scores_at(points_north, points_east):
        seen.extend(zip(points_north.tolist(), points_east.tolist(), strict=True))
        square = ((points_north - north) / north_width) ** 2 + ((points_east - east) / east_width) ** 2
        return 0.8 - 0.5 * square / 30.0

    scores_at.seen = seen
    return scores_at


@pytest.mark.parametrize("place", [(0.0, 0.0), (13.0, -22.0), (-27.5, 8.4), (29.0, 29.0)])
def test_a_planted_place_is_found(place):
    scores_at = hill(*place)
    field, mean, _ = climb(scores_at, np.zeros((1, 2)), 60.0, 300.0)
    assert np.abs(mean - place).max() < 1.9
    assert len(scores_at.seen) == len(field.points) == len(set(scores_at.seen)) <= 75


def test_of_several_candidates_the_best_one_is_followed():
    starts = np.array([[0.0, 0.0], [400.0, 100.0], [-300.0, 0.0]])
    _, mean, _ = climb(hill(388.0, 93.0), starts, 60.0, 300.0)
    assert np.abs(mean - (388.0, 93.0)).max() < 1.9


def test_the_ellipse_is_as_wide_as_the_response():
    # exp(30 * score) is a normal distribution of 12 m to the north and 5 m to the east.
    _, _, covariance = climb(hill(2.0, 1.0, 9.0, 5.0), np.zeros((1, 2)), 120.0, 30.0)
    spread = ellipses(covariance[None])
    assert spread.major_m[0] == pytest.approx(9.0 * AXES_SD, rel=0.25)
    assert spread.minor_m[0] == pytest.approx(5.0 * AXES_SD, rel=0.35)
    assert min(spread.azimuth[0], 180 - spread.azimuth[0]) < 5


def test_ground_without_imagery_is_passed_over():
    def scores_at(north, east):
        return np.where(north > 0, hill(20.0, 0.0)(north, east), -np.inf)

    _, mean, _ = climb(scores_at, np.zeros((1, 2)), 60.0, 300.0)
    assert np.abs(mean - (20.0, 0.0)).max() < 2.5
    with pytest.raises(InputError, match="covers none"):
        climb(lambda north, east: np.full(len(north), -np.inf), np.zeros((1, 2)), 60.0, 300.0)
