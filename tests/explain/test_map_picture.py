import numpy as np
import pytest

from cvgeo.explain import drawing
from cvgeo.explain.map_picture import Candidate, draw_map

GREY = np.full((600, 800, 3), 120, dtype=np.uint8)


@pytest.mark.parametrize(("metres", "expected"), [(0.7, 0.5), (1, 1), (4.9, 2), (240, 200), (999, 500), (1000, 1000)])
def test_scale_bar_lengths_are_round(metres, expected):
    assert drawing.nice_length(metres) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("metres", "expected"),
    [(4.22, "4.2 m"), (37.4, "37 m"), (1250, "1.25 km"), (689_920.27, "690 km"), (11_541_233, "11,541 km")],
)
def test_lengths_are_told_as_people_read_them(metres, expected):
    assert drawing.metres(metres) == expected


@pytest.mark.parametrize(
    ("sd", "expected"), [(np.nan, "heading 163°"), (120.8, "heading 163° ± 121°"), (0.2, "heading 163° ± 1°")]
)
def test_a_heading_tells_how_uncertain_it_is(sd, expected):
    assert drawing.heading(162.7, sd) == expected


def marks(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Rows and columns, in the map below the header, of the pixels of a colour."""
    header = picture.shape[0] - GREY.shape[0]
    return np.argwhere((picture[header:] == colour).all(axis=2))


def test_marks_stand_at_their_places():
    candidates = [Candidate(300, 400, 1, 0.9), Candidate(100, 150, 2, 0.5)]
    picture = draw_map(GREY, candidates, 0.5, "a place", truth=(450, 650))
    assert picture.shape[1] == 800 and picture.shape[0] > 600
    for colour, place in ((drawing.FOUND, (300, 400)), (drawing.OTHER, (100, 150)), (drawing.TRUE, (450, 650))):
        assert np.abs(marks(picture, colour).mean(axis=0) - place).max() < 3


@pytest.mark.parametrize(("heading", "direction"), [(0, (-1, 0)), (90, (0, 1)), (180, (1, 0)), (270, (0, -1))])
def test_arrow_points_along_the_heading(heading, direction):
    picture = draw_map(GREY, [Candidate(300, 400, 1, 0.9, heading)], 0.5, "a place")
    offset = marks(picture, drawing.FOUND).mean(axis=0) - (300, 400)
    assert offset @ direction > 5 and abs(offset @ direction[::-1]) < 2


def test_input_is_left_alone():
    before = GREY.copy()
    draw_map(GREY, [Candidate(300, 400, 1, 0.9)], 0.5, "a place")
    assert np.array_equal(before, GREY)
