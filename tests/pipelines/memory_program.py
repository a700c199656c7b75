"""Embeds a folder of pictures within a memory limit; prints the peak above that of one picture, in MiB."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cvgeo.config.schema import Config
from cvgeo.memory import limit_memory
from cvgeo.models import create_model
from cvgeo.pipelines.embed import EmbedOptions, embed
from cvgeo.report import Reporter
from cvgeo.training.checkpoint import save_checkpoint
from tests.benchmarks.machine import forget_peak, peak_mib


def saved_model(folder: Path) -> str:
    """A small backbone at the paper's size, whose maps are large."""
    torch.manual_seed(0)
    model = create_model("tiny", view={"aerial_height": 112, "aerial_width": 616}).eval()
    save_checkpoint(folder / "model.safetensors", model, Config(model=model.config), {})
    return str(folder / "model.safetensors")


def main(pictures: Path, store: Path, limit: int) -> None:
    torch.set_num_threads(1)
    options, model = EmbedOptions(batch_size=48, device="cpu", jobs=1), saved_model(store.parent)
    first = sorted(str(one) for one in pictures.iterdir())[:1]
    embed(first, store.with_name("one.h5"), reporter=Reporter(), model=model, options=options)
    limit_memory(limit or None)
    forget_peak()
    before = peak_mib()
    embed([str(pictures)], store, reporter=Reporter(), model=model, options=options)
    print(peak_mib() - before)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
