"""The project's own layout, which `build-dataset` writes."""

from __future__ import annotations

from pathlib import Path

from cvgeo.data.dataset_files import DESCRIPTION, read_dataset
from cvgeo.data.readers import reader
from cvgeo.data.schema import Dataset


@reader(
    "native",
    lambda folder: (folder / DESCRIPTION).is_file(),
    layout="dataset.toml, tiles.csv and, unless it is only a gallery, panoramas.csv and pairs.csv",
)
def read(folder: Path) -> Dataset:
    """A folder with `dataset.toml` and its tables."""
    return read_dataset(folder)
