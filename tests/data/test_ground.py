from pathlib import Path

import numpy as np
import pytest

from cvgeo.config.schema import ViewConfig
from cvgeo.data.ground import check_cube, face_files, fronts, read_ground
from cvgeo.data.images import write_image
from cvgeo.data.schema import Conventions, Panoramas
from cvgeo.data.views import GroundViews
from cvgeo.errors import InputError
from cvgeo.geometry.projections import FACES, cube_faces, join_faces

WORDS = "front right back left up down"
NAMES = {
    "place7_front.jpg": [f"place7_{face}.jpg" for face in FACES],
    "place7-F.png": [f"place7-{face}.png" for face in "FRBLUD"],
    "a.b.0.png": [f"a.b.{number}.png" for number in range(6)],
    "Up.webp": [f"{face}.webp" for face in ("Front", "Right", "Back", "Left", "Up", "Down")],
    "d.png": [f"{face}.png" for face in "frblud"],
}


def six(folder: Path, side: int = 8, names: str = WORDS) -> list[Path]:
    """Six files of grey 10, 20, ... 60."""
    paths = [folder / f"place_{name}.png" for name in names.split()]
    for number, path in enumerate(paths, start=1):
        write_image(path, np.full((side, side, 3), 10 * number, np.uint8))
    return paths


@pytest.mark.parametrize("name", NAMES)
def test_names_of_faces(name):
    assert [file.name for file in face_files(Path("folder") / name)] == NAMES[name]


@pytest.mark.parametrize("name", ["front5.jpg", "stafford.jpg", "place7_6.jpg", "IMG_20.png", "placefront.jpg"])
def test_names_of_other_pictures(name):
    assert face_files(Path(name)) is None


@pytest.mark.parametrize("names", [WORDS, "f r b l u d", "0 1 2 3 4 5"])
def test_six_files_are_one_picture(tmp_path, names):
    paths = six(tmp_path, names=names)
    image = read_ground(paths[0], "cube")
    assert image.shape == (8, 48, 3)
    assert [face[0, 0, 0] for face in cube_faces(image)] == [10, 20, 30, 40, 50, 60]
    assert np.array_equal(read_ground(paths[4], "cube"), image)
    assert read_ground(paths[0]).shape == (8, 8, 3)


def test_six_files_are_told_by_their_front(tmp_path):
    paths = six(tmp_path)
    other = tmp_path / "other.png"
    assert list(fronts([other, *sorted(paths), other])) == [other, paths[0]]


def test_cubes_that_are_none(tmp_path):
    paths = six(tmp_path)
    paths[2].unlink()
    paths[5].unlink()
    with pytest.raises(
        InputError, match=r"place_front.png: faces of this cube map are missing: place_back.png, place_"
    ):
        read_ground(paths[0], "cube")
    write_image(paths[2], np.zeros((9, 9, 3), np.uint8))
    write_image(paths[5], np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="differ in size: 8x8, 9x9"):
        read_ground(paths[0], "cube")
    write_image(tmp_path / "photo.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="its name does not say which"):
        check_cube(tmp_path / "photo.png", 8, 8)
    with pytest.raises(InputError, match=r"photo.png: 50x40 pixels is no cube map"):
        check_cube(tmp_path / "photo.png", 40, 50)
    check_cube(tmp_path / "photo.png", 40, 60)


def test_views_of_a_table_with_cubes_and_photos(tmp_path):
    front, wide = six(tmp_path, side=32)[0], tmp_path / "wide.png"
    write_image(wide, join_faces(np.stack([read_ground(path) for path in face_files(front)])))
    photo = tmp_path / "photo.png"
    write_image(photo, np.full((30, 40, 3), 90, np.uint8))
    table = Panoramas(
        ["six", "one", "photo", "unknown"],
        [front, wide, photo, photo],
        column0_heading=[180.0] * 4,
        hfov=[np.nan, 360, 60, np.nan],
        projection=["cube", "cube", "perspective", "perspective"],
        pitch=[np.nan, 0, 10, 0],
    )
    view = ViewConfig(ground_height=28, ground_width=72)
    views = GroundViews(table, view, Conventions("stretch"))
    assert np.array_equal(views[0][0], views[1][0]) and views[0][1].all()
    # The front's centre, 180 degrees from column 0, is grey 10; a quarter turn on is the right face; up reaches lowest
    # between them.
    assert views[0][0][14, 36, 0] == 10 and views[0][0][14, 54, 0] == 20 and views[0][0][0, 45, 0] == 50
    mask = views[2][1]
    assert 0 < mask.mean() < 0.25 and mask[:14].sum() > mask[14:].sum()
    assert str(views[3]) == f"{photo}: the field of view of a perspective picture is unknown; state it"
