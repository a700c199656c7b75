"""`embed` against the slower of bare forward and bare decoding, and a second run over unchanged pictures.

    python tests/benchmarks/embed.py [--quick] [--pictures N] [--device D] [--model NAME] [--folder DIR]

Prints one JSON line. Bare forward: the model on batches that lie ready in the device's memory. Bare decoding: the
views of the same pictures from the same loader, in as many workers. The whole: the pipeline with hashes, checks and a
store. Ways alternate in this process, the best of the rounds counts. The second run is the pipeline again, model
loaded and all, without the imports.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))

from frame import parser_of, scratch, tell
from polar import write_pictures

from cvgeo.config.schema import Config
from cvgeo.data.loader import item_batches
from cvgeo.data.views import AerialViews
from cvgeo.models import Embedder, create_model
from cvgeo.pipelines.embed import EmbedOptions, embed, load_model
from cvgeo.pipelines.pictures import loose_tiles
from cvgeo.report import Reporter
from cvgeo.training.checkpoint import save_checkpoint

BATCH = 32


def bare_forward(model: Embedder, pictures: int) -> float:
    """Seconds of the model alone on so many views."""
    view = model.config.view
    device = next(model.parameters()).device
    images = torch.randn(BATCH, 3, view.aerial_height, view.aerial_width, device=device)
    started = time.perf_counter()
    with torch.inference_mode():
        for start in range(0, pictures, BATCH):
            model.embed("aerial", images[: pictures - start], None).descriptor.float().cpu()
    return time.perf_counter() - started


def bare_decoding(model: Embedder, paths: list[Path], folder: Path, jobs: int) -> float:
    """Seconds of the views alone."""
    views = AerialViews(loose_tiles(paths, folder / "x.h5"), model.config.view)
    started = time.perf_counter()
    assert sum(len(batch) for batch in item_batches(views, BATCH, jobs)) == len(paths)
    return time.perf_counter() - started


def whole(pictures: Path, store: Path, model: Path, words: argparse.Namespace) -> tuple[float, dict[str, Any]]:
    """Seconds and record of the pipeline."""
    options = EmbedOptions(BATCH, words.device, words.jobs)
    started = time.perf_counter()
    record = embed([str(pictures)], store, reporter=Reporter(), model=str(model), options=options)
    return time.perf_counter() - started, record


def saved_model(folder: Path, name: str) -> Path:
    """The checkpoint of a preset with random weights."""
    torch.manual_seed(0)
    model = create_model(name).eval()
    path = folder / "model.safetensors"
    save_checkpoint(path, model, Config(model=model.config), {})
    return path


def measure(folder: Path, words: argparse.Namespace) -> dict[str, Any]:
    """The record of one size."""
    paths = write_pictures(folder / "pictures", words.pictures)
    checkpoint = saved_model(folder, words.model)
    model = load_model(str(checkpoint), None, words.device)[0]
    bare_forward(model, BATCH)
    seconds: dict[str, list[float]] = {"forward": [], "decoding": [], "whole": []}
    again: list[float] = []
    for number in range(words.rounds):
        store = folder / f"store{number}.h5"
        seconds["forward"].append(bare_forward(model, len(paths)))
        seconds["decoding"].append(bare_decoding(model, paths, folder, words.jobs))
        took, record = whole(folder / "pictures", store, checkpoint, words)
        assert record["new"] == len(paths)
        seconds["whole"].append(took)
        took, record = whole(folder / "pictures", store, checkpoint, words)
        assert record["reused"] == len(paths) and record["new"] == 0
        again.append(took)
    best = {name: min(found) for name, found in seconds.items()}
    slower = max(best["forward"], best["decoding"])
    return {
        "model": words.model,
        "device": words.device,
        "pictures": len(paths),
        "jobs": words.jobs or len(os.sched_getaffinity(0)),
        **{f"{name}_pictures_a_second": round(len(paths) / value, 1) for name, value in best.items()},
        "slower": "forward" if best["forward"] >= best["decoding"] else "decoding",
        "ratio": round(slower / best["whole"], 3),
        "second_run_seconds": round(min(again), 3),
        "second_run_share": round(min(again) / best["whole"], 4),
    }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print one JSON line, and return its record."""
    parser = parser_of(__doc__, "40 pictures, one round, a tiny model", written="pictures and stores are written")
    parser.add_argument("--pictures", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", default="zero_shot", help="a preset; its weights are random")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--jobs", type=int, default=0, help="workers that decode; 0 takes one a core")
    words = parser.parse_args(arguments)
    if words.quick:
        words.pictures, words.rounds, words.jobs, words.model = 40, 1, 1, "tiny"
    with scratch(words) as folder:
        os.environ["CVGEO_STATE"] = str(folder)
        record = measure(folder, words)
    return tell(record)


if __name__ == "__main__":
    main()
