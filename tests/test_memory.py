from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from cvgeo.cli.options import size_in_bytes, use_memory
from cvgeo.errors import UsageError
from cvgeo.memory import at_most, collector_paused, is_limited, limit_memory
from cvgeo.retrieval import EmbeddingStore
from cvgeo.retrieval.exact import ArrayGallery, ranks, search
from cvgeo.retrieval.fusion import FusedScorer
from cvgeo.retrieval.heading import RollingScorer, Scorer, VariantScorer

HERE = Path(__file__).parent


@pytest.fixture
def unlimited() -> Iterator[None]:
    yield
    limit_memory(None)


def test_the_collector_rests_inside_and_works_again_outside_and_after_a_fault():
    assert gc.isenabled()
    with collector_paused():
        assert not gc.isenabled()
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError, match="a fault"), collector_paused():
        raise ValueError("a fault")
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512M", 512 << 20),
        ("2G", 2 << 30),
        ("1.5g", 3 << 29),
        ("64MiB", 64 << 20),
        ("8kb", 8192),
        ("3", 3 << 30),
        ("0", 0),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert size_in_bytes(text, "--memory") == size


@pytest.mark.parametrize("text", ["", "G", "two", "-1G", "1Q", "nan", "inf", "9999999T"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match=r"--memory .* is no size; .*512M"):
        size_in_bytes(text, "--memory")


def test_a_limit_bounds_how_much_is_held_at_once(unlimited: None) -> None:
    assert not is_limited() and at_most(1000, 1 << 20, 0.5) == 1000
    use_memory("64M")
    assert is_limited()
    assert [at_most(usual, 1 << 20, 0.5) for usual in (1000, 32, 5)] == [32, 32, 5]
    assert at_most(1000, 1 << 40, 0.5) == 1
    with pytest.raises(UsageError, match="at least 16M"):
        use_memory("15M")


def scorers(generator: np.random.Generator) -> dict[str, Scorer]:
    queries = generator.normal(size=(40, 4, 32)).astype(np.float32)
    plain, variants = Scorer(queries[:, 0]), VariantScorer(queries)
    return {"plain": plain, "variants": variants, "rolls": RollingScorer(queries[:, 1], 8)} | {
        "fused": FusedScorer([plain, variants])
    }


class Largest:
    """Keeps the largest number of scores that it is shown at once."""

    def __init__(self) -> None:
        self.size = 0

    def fresh(self) -> Largest:
        return Largest()

    def add(self, some: slice, scores: np.ndarray) -> None:
        self.size = max(self.size, scores.size)

    def join(self, other: Largest) -> None:
        self.size = max(self.size, other.size)


@pytest.mark.parametrize("kind", ["plain", "variants", "rolls", "fused"])
def test_a_limit_changes_no_result(kind: str, unlimited: None, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    gallery = ArrayGallery(generator.normal(size=(900, 32)).astype(np.float16))
    scorer, found = scorers(generator)[kind], []
    for limit in (None, 100_000):
        limit_memory(limit)
        shown = Largest()
        rows, scores = search(gallery, scorer, 7, shown)
        one = [rows, scores]
        if kind != "fused":
            ranked = ranks(gallery, scorer, (np.arange(40), np.arange(40) * 3))
            one += [ranked.exact, ranked.top, ranked.best_score]
        found.append((one, shown.size))
    (usual, largest), (bounded, smaller) = found
    assert smaller * scorer.scores_a_pair <= 100_000 < largest * 24 * scorer.scores_a_pair
    for first, second in zip(usual, bounded, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-5)


def of_program(program: Path, *words: str) -> list[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    call = [sys.executable, str(program), *words]
    return subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout.split()


@pytest.mark.slow
def test_searching_stays_within_the_limit() -> None:
    program = HERE / "retrieval" / "memory_program.py"
    (usual, found), (bounded, same) = (of_program(program, str(limit)) for limit in (0, 16 << 20))
    assert same == found
    assert float(bounded) < 20 < 40 < float(usual)


@pytest.mark.slow
def test_embedding_stays_within_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVGEO_STATE", str(tmp_path / "state"))
    generator, found = np.random.default_rng(0), {}
    (tmp_path / "pictures").mkdir()
    for number in range(48):
        picture = generator.integers(0, 256, (200, 200, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "pictures" / f"{number}.jpg"), picture)
    for limit in (0, 64 << 20):
        store = tmp_path / f"{limit}.h5"
        words = str(tmp_path / "pictures"), str(store), str(limit)
        (peak,) = of_program(HERE / "pipelines" / "memory_program.py", *words)
        with EmbeddingStore(store) as opened:
            found[limit] = float(peak), opened.fetch(np.arange(48))
    (usual, rows), (bounded, same) = found.values()
    np.testing.assert_allclose(rows, same, atol=1e-3)
    assert bounded < 72 < 120 < usual
