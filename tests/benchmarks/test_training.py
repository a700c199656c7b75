"""The benchmarks of training run, and what they compare is alike."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from cvgeo.data import samplers


def module_of(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_trainer_learns_what_the_plain_loop_learns() -> None:
    small = ["--quick", "--size", "32", "64", "--losses", "12", "--threads", "1", "--backbone", "tiny"]
    record = module_of("training").main(small)
    assert record["ratio"].keys() == {"float32", "bfloat16"}
    assert abs(record["loss_difference"]["float32"]) < 1e-3
    assert abs(record["loss_difference"]["bfloat16"]) < 0.05


def test_batches_are_packed_in_linear_time_and_nearly_all_pairs_are_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # Attempts, not seconds: they are the same on a busy machine.
    attempts, original = [0], samplers._Batch.add

    def counted(batch: samplers._Batch, panorama: int, tile: int) -> bool:
        attempts[0] += 1
        return original(batch, panorama, tile)

    monkeypatch.setattr(samplers._Batch, "add", counted)
    module, a_pair = module_of("sampling"), []
    for pairs in (2_000, 16_000):
        attempts[0] = 0
        record = module.measure_one(pairs, 0)
        assert min(record["random_share"], record["hard_share"]) > 0.9
        a_pair.append(attempts[0] / pairs)
    assert a_pair[1] < 1.2 * a_pair[0]
