"""Every example of every command does what it says: each line is run as it stands, with toys and at toy size."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from cvgeo.cli import app
from cvgeo.cli.pages import Page
from cvgeo.retrieval import EmbeddingStore
from cvgeo.training.calibration import CalibrationEntry, write_calibration

SIZES = [f"--set=model.view.{kind}_{side}" for kind in ("ground", "aerial") for side in ("height=32", "width=128")]
# What the machine of a test lacks: a network, ImageNet weights, an afternoon.
INSTEAD = {
    "$SLURM_ARRAY_TASK_ID": "3",
    "--weights imagenet": "--weights none",
    "--seeds 3": "--seeds 1",
    "--seeds 5": "--seeds 1",
    "--panoramas 300 --size-km 0.8 --epochs 4": "--panoramas 40 --size-km 0.3 --epochs 1",
    "--aerial ortho.tif -o area": "--aerial ortho.tif --spacing 60 -o area",
    "--bbox 48.13,11.56,48.15,11.59": "--bbox 48.1,11.6,48.1015,11.602 --rate 100 --tile-size 64",
    "--vary train.batch_size=16,32": " ".join(
        ["--vary train.batch_size=2,4", *SIZES, "--set=model.aggregator_options.columns=8"]
    ),
    "--spacing 8 --views 4": "--spacing 60 --views 2",
    "--size-km 0.6 --panoramas 60": "--size-km 0.3 --panoramas 2",
    "--size-km 0.6 --preset terrain": "--size-km 0.3 --panoramas 2 --preset terrain",
}
# Run with other words by other tests, which have what these need: minutes, panoramas enough to calibrate with, an
# engine (embedded, where the example names a cluster), and settings for another model than the toys'.
ELSEWHERE = {
    "cvgeo demo": "test_demo_command.py: test_demo_locates_held_out_panoramas",
    "cvgeo evaluate --dataset data --model runs/small --split val --calibrate": (
        "test_probability_command.py: test_evaluate_calibrates_and_search_tells_probabilities"
    ),
    "cvgeo index tiles.h5 --kind milvus --milvus http://db:19530": ("test_names.py: test_every_name_in_every_command"),
    "cvgeo train --area ortho.tif -o runs/area": "test_train_command.py: test_an_area_alone_trains_a_model",
}
PARTLY = {"cvgeo build-dataset check cvusa --all": (0, 3), "cvgeo build-dataset check": (0, 3)}
STOCK = """
cvgeo train -d data --model mc_gra_small --recipe demo --weights none -o runs/paper {sizes}
cvgeo train -d data --model mc_gra_small --recipe demo --weights none -o runs/cbam {sizes} --set model.attention=cbam \
    --set model.attention_options={{}}
rm tiles.h5
cvgeo embed -d data --model runs/small -o tiles.h5
cvgeo index tiles.h5
"""


def leaves(page: Page) -> list[Page]:
    return [one for child in page.commands for one in (leaves(child) if child.commands else [child])]


def examples() -> list[pytest.param]:
    page = app.program_page()
    lines = dict.fromkeys(line for one in [page, *leaves(page)] for line, _ in one.examples)
    return [pytest.param(line, id=line) for line in lines if line not in ELSEWHERE]


def calibrate(folder: Path) -> None:
    """Some calibration of the model of tiles.h5; the toys are too few for a true one."""
    with EmbeddingStore(folder / "tiles.h5") as store:
        mark = store.header.fingerprint
    rest = {"none": -3.0, "level": -0.1, "none_share": 0.1, "dataset": "d", "split": "val", "queries": 9, "gallery": 9}
    fits = [CalibrationEntry(360.0, known, sharpness=30.0, **rest) for known in (True, False)]
    write_calibration(folder / "runs/small", mark, fits)


def placed(line: str, folder: Path) -> str:
    """A line with the toys' place instead of the one it names."""
    if "--near" not in line:
        return line
    with (folder / "world/truth.csv").open() as file:
        place = next(csv.DictReader(file))
    return re.sub(r"--near [\d.]+,[\d.]+", f"--near {place['lat']},{place['lon']}", line)


@pytest.fixture(scope="module")
def stocked(furnished, tmp_path_factory):
    """The workshop with all that examples name besides."""
    import rasterio.shutil

    workshop = furnished.copy(tmp_path_factory.mktemp("stocked") / "w")
    folder = workshop.folder
    made = workshop.shell("set -e; " + STOCK.format(sizes=" ".join(SIZES)), timeout=300)
    assert made.returncode == 0, made.stderr
    rasterio.shutil.copy(folder / "ortho.tif", folder / "area.mbtiles", driver="MBTiles")
    shutil.copy(folder / "ortho.tif", folder / "area.tif")
    for name in ("photo", "a", "b", "c"):
        shutil.copy(folder / "pano.jpg", folder / f"{name}.jpg")
    calibrate(folder)
    shutil.copytree(folder / "runs/small", folder / "runs/any")
    (folder / "tiles").unlink()
    (folder / "tiles").mkdir()
    for number in range(4):
        shutil.copy(folder / "tile.png", folder / "tiles" / f"{number}.png")
    rows = (folder / "world/truth.csv").read_text()
    (folder / "places.csv").write_text(rows.replace("panoramas/", "world/panoramas/"))
    settings = (folder / "cvgeo.toml").read_text()
    sizes = [one.removeprefix("--set=") for one in SIZES]
    ablate = ["weights = 'none'", "epochs = 1", "batch-size = 2", f"set = {[*sizes, 'model.backbone=resnet18']}"]
    more = ["[ablate]", *ablate, *(f"[{one}]\nweights = 'none'" for one in ("embed", "evaluate", "heatmap"))]
    (folder / "cvgeo.toml").write_text(
        settings.replace("[train]", "[train]\nmodel = 'tiny'\nweights = 'none'") + "\n".join(more) + "\n"
    )
    return workshop


def test_examples_that_others_run_are_there():
    page = app.program_page()
    lines = {line for one in [page, *leaves(page)] for line, _ in one.examples}
    assert lines >= set(ELSEWHERE)
    for place in ELSEWHERE.values():
        file, test = place.split(": ")
        assert f"def {test}(" in Path(__file__).with_name(file).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("line", examples())
def test_example(stocked, tile_server, tmp_path, line):
    tile_server.other = (200, {}, cv2.imencode(".png", np.full((256, 256, 3), 90, np.uint8))[1].tobytes())
    line = line.replace("https://tiles.example.org/{z}/{x}/{y}.jpg", tile_server.template)
    workshop = stocked.copy(tmp_path / "w")
    for output in ("data", "gallery", "pairs", "tiles.h5", "runs/small", "runs/any", "runs/paper", "world"):
        if f"-o {output}" in line and not line.startswith(f"cvgeo search -s {output}"):
            path = workshop.folder / output
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for word, other in INSTEAD.items():
        line = line.replace(word, other)
    done = workshop.shell(f"set -o pipefail; {placed(line, workshop.folder)}", timeout=300)
    expected = next((statuses for start, statuses in PARTLY.items() if line.startswith(start)), (0,))
    assert done.returncode in expected and "Traceback" not in done.stderr, done.stderr
    if line.startswith("cvgeo build-dataset check"):
        return  # sound data gives no record
    written = line.rpartition(" > ")[2] if " > " in line else ""
    assert done.stdout or (written and Path(workshop.folder / written).stat().st_size), done.stderr
