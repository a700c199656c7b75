import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from cvgeo.errors import InputError, MismatchError, UsageError
from cvgeo.geometry.areas import Disc, Polygons
from cvgeo.pipelines.index import (
    IndexOptions,
    build_index,
    check_index,
    choose_index,
    close_index,
    faiss_path,
    open_faiss,
    open_milvus,
    searching,
)
from cvgeo.report import Reporter
from cvgeo.retrieval import EmbeddingStore, StoreHeader, StoreRows, approximate, exact, writing
from cvgeo.retrieval.approximate import Identity, row_keys, search
from cvgeo.retrieval.exact import ArrayGallery
from cvgeo.retrieval.faiss_index import FaissIndex, Plan
from cvgeo.retrieval.heading import RollingScorer, Scorer, VariantScorer
from cvgeo.retrieval.reduction import learn_reduction

DIMENSION = 32
HEADER = StoreHeader(fingerprint="f" * 64, dimension=DIMENSION, view="aerial")


@pytest.fixture
def faiss():
    return pytest.importorskip("faiss", reason="faiss is not installed")


@pytest.fixture
def milvus():
    pytest.importorskip("milvus_lite", reason="milvus-lite is not installed")
    return pytest.importorskip("pymilvus", reason="pymilvus is not installed")


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def clustered(count, seed=0, dimension=DIMENSION):
    """Rows in clusters of 25, and queries of the same clusters."""
    generator = np.random.default_rng(seed)
    centres = unit(generator.normal(size=(-(-count // 25), dimension)))
    noise = 0.5 / dimension**0.5
    rows = np.repeat(centres, 25, axis=0)[:count] + noise * generator.normal(size=(count, dimension))
    queries = centres[:50] + noise * generator.normal(size=(len(centres[:50]), dimension))
    return unit(rows), unit(queries).astype(np.float32)


def add(path, numbers, rows, header=HEADER):
    """Rows with positions on a grid of 0.001 degrees around 52 N, 13 E."""
    numbers = np.asarray(numbers)
    with writing(path, header) as writer:
        lat, lon = 52 + numbers % 40 * 1e-3, 13 + numbers // 40 * 1e-3
        writer.add(StoreRows.of([f"tile {n}" for n in numbers], rows, lat=lat, lon=lon))
    return path


def build(path, kind="faiss", **options):
    return build_index(str(path), kind, IndexOptions(**options), Reporter())


def recall(found, true):
    return np.mean([np.isin(one, other).mean() for one, other in zip(true, found, strict=True)])


@pytest.mark.parametrize("options", [{"structure": "hnsw"}, {"structure": "ivfpq"}, {"structure": "ivfpq", "pca": 16}])
def test_an_index_finds_what_exact_search_finds(faiss, tmp_path, options):
    rows, queries = clustered(4000)
    path = add(tmp_path / "x.h5", range(4000), rows)
    record = build(path, **options)
    assert record["built"] == "new" and record["added"] == 4000 and record["bytes"] == faiss_path(path).stat().st_size
    with EmbeddingStore(path) as store:
        found, scores = search(store, open_faiss(store), queries, 10)
        true, true_scores = exact.search(store, queries, 10)
    assert recall(found, true) > 0.95
    both = found == true
    np.testing.assert_allclose(scores[both], true_scores[both], atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert check_index(str(path), "faiss", IndexOptions())["recall_at_10"] > 0.95


def test_every_hit_has_its_exact_score_and_is_given_once(faiss):
    rows, queries = clustered(600)
    identity = Identity(row_keys([str(n) for n in range(600)]), np.zeros(600, np.uint32), "d", "f", DIMENSION)
    gallery = ArrayGallery(rows.astype(np.float16))
    index = FaissIndex.build(gallery, identity, Plan.choose(600, DIMENSION), Reporter().track)
    scorers = [Scorer(queries), RollingScorer(queries, 8), VariantScorer(np.stack([queries, queries[::-1]], axis=1))]
    for scorer in scorers:
        found, scores = search(gallery, index, scorer, 7)
        true, _ = exact.search(gallery, scorer, 7)
        assert recall(found, true) > 0.95
        for number in range(len(queries)):
            assert len(set(found[number].tolist())) == 7
            one = scorer.take(np.array([number]))
            literal = [
                one.scores(slice(0, 1), one.prepare(gallery.fetch(np.array([row]))))[0, 0] for row in found[number]
            ]
            np.testing.assert_allclose(scores[number], literal, atol=1e-5)


def test_more_hits_than_the_index_names_are_all_found(faiss, tmp_path):
    rows, queries = clustered(300)
    path = add(tmp_path / "x.h5", range(300), rows)
    build(path, structure="ivfpq")
    with EmbeddingStore(path) as store:
        found, scores = search(store, open_faiss(store), queries, 1000)
        _, true_scores = exact.search(store, queries, 1000)
    assert found.shape == (len(queries), 300)
    np.testing.assert_allclose(scores, true_scores, atol=1e-5)


@pytest.mark.parametrize("structure", ["hnsw", "ivfpq"])
def test_an_extended_index_finds_what_a_rebuilt_one_finds(faiss, tmp_path, structure):
    rows, queries = clustered(3000)
    path = add(tmp_path / "x.h5", range(0, 3000, 2), rows[::2])
    build(path, structure=structure)
    add(path, range(1, 3000, 2), rows[1::2])
    # Some are embedded anew: their old entries must not be found any more.
    changed = unit(np.random.default_rng(1).normal(size=(100, DIMENSION)))
    add(path, range(100), changed)
    record = build(path)
    assert (record["built"], record["added"], record["removed"]) == ("extended", 1550, 50)
    assert record["structure"] == structure
    with EmbeddingStore(path) as store:
        true, _ = exact.search(store, np.concatenate([queries, changed.astype(np.float32)]), 5)
        found, _ = search(store, open_faiss(store), np.concatenate([queries, changed.astype(np.float32)]), 5)
    assert build(path, overwrite=True, structure=structure)["built"] == "again"
    with EmbeddingStore(path) as store:
        again, _ = search(store, open_faiss(store), np.concatenate([queries, changed.astype(np.float32)]), 5)
    assert recall(found[:50], true[:50]) > 0.95 and recall(again[:50], true[:50]) > 0.95
    assert (found[-100:, 0] == again[-100:, 0]).all()
    assert build(path)["built"] == "unchanged"


def test_an_index_that_has_changed_too_much_is_built_again(faiss, tmp_path):
    rows, _ = clustered(400)
    path = add(tmp_path / "x.h5", range(400), rows)
    build(path)
    add(path, range(200), rows[::-1][:200])
    assert build(path)["built"] == "again"
    add(path, range(400, 3000), clustered(2600, seed=3)[0])
    assert build(path)["built"] == "again"
    assert check_index(str(path), "faiss", IndexOptions())["recall_at_10"] > 0.9


def test_a_stale_index_is_refused_and_a_damaged_one_too(faiss, tmp_path):
    rows, _ = clustered(300)
    path = add(tmp_path / "x.h5", range(200), rows[:200])
    with pytest.raises(InputError, match=r"no such index.*build it"):
        check_index(str(path), "faiss", IndexOptions())
    build(path)
    add(path, range(200, 300), rows[200:])
    with pytest.raises(MismatchError, match=r"another state.*cvgeo index"):
        check_index(str(path), "faiss", IndexOptions())
    build(path)
    whole = faiss_path(path).read_bytes()
    for damaged in (whole[:-1], whole[1:], whole[:5000] + b"x" + whole[5001:], b"", b"nothing of ours"):
        faiss_path(path).write_bytes(damaged)
        with pytest.raises(InputError, match="damaged"):
            check_index(str(path), "faiss", IndexOptions())


def test_an_index_of_another_models_store_is_built_again(faiss, tmp_path):
    rows, _ = clustered(200)
    path = add(tmp_path / "x.h5", range(200), rows)
    build(path)
    other = StoreHeader(fingerprint="e" * 64, dimension=DIMENSION, view="aerial")
    with writing(path, other, overwrite=True) as writer:
        writer.add(StoreRows.of([f"tile {n}" for n in range(200)], rows))
    with pytest.raises(MismatchError, match="another state"):
        check_index(str(path), "faiss", IndexOptions())
    assert build(path)["built"] == "again"


def box(south, west, north, east):
    return Polygons([[[(west, south), (east, south), (east, north), (west, north), (west, south)]]])


AREAS = [box(52.0052, 12.999, 52.02, 13.0064), Disc(52.01, 13.003, 400), box(52, 12.9999, 52.1, 13.0001)]


@pytest.mark.parametrize("area", AREAS)
@pytest.mark.parametrize("kind", ["faiss", "milvus", None])
def test_hits_lie_among_the_rows_allowed(request, tmp_path, monkeypatch, kind, area):
    rows, queries = clustered(400)
    path = add(tmp_path / "x.h5", range(400), rows)
    if kind is not None:
        request.getfixturevalue(kind)
        build(path, kind)
    with EmbeddingStore(path) as store:
        inside = np.flatnonzero(area.contains(store.columns.lat, store.columns.lon))
        assert 6 < len(inside) < 400
        index = choose_index(store, kind or "exact", None, Reporter())
        found, _ = searching(store, index, inside)(Scorer(queries), 6)
        monkeypatch.setattr(approximate, "FEW_ROWS", 0)
        filtered, _ = searching(store, index, inside)(Scorer(queries), 6)
        close_index(index)
        order = [
            sorted(inside.tolist(), key=lambda row: -all_scores[row])[:6]
            for all_scores in queries @ store.fetch(np.arange(400)).T
        ]
    np.testing.assert_array_equal(found, order)
    assert set(filtered.ravel().tolist()) <= set(inside.tolist())
    # The graph of milvus-lite loses more where few rows are allowed: such areas are never left to it.
    assert recall(filtered, np.array(order)) > (0.5 if kind == "milvus" else 0.95)


def test_milvus_may_be_repeated(milvus, tmp_path):
    rows, queries = clustered(600)
    path = add(tmp_path / "x.h5", range(500), rows[:500])
    assert build(path, "milvus")["added"] == 500
    record = build(path, "milvus")
    assert (record["built"], record["added"], record["removed"]) == ("unchanged", 0, 0)
    add(path, range(500, 600), rows[500:])
    add(path, range(20), rows[::-1][:20])
    with EmbeddingStore(path) as store, pytest.raises(MismatchError, match="another state"):
        open_milvus(store)
    record = build(path, "milvus")
    assert (record["built"], record["added"]) == ("extended", 120)
    with EmbeddingStore(path) as store:
        index = open_milvus(store)
        found, scores = search(store, index, queries[:20], 5)
        true, true_scores = exact.search(store, queries[:20], 5)
        assert len(index.entries()[0]) == 600
        close_index(index)
    assert recall(found, true) > 0.95
    np.testing.assert_allclose(scores[found == true], true_scores[found == true], atol=1e-5)
    # A store that has lost rows.
    with writing(path, HEADER, overwrite=True) as writer:
        writer.add(StoreRows.of([f"tile {n}" for n in range(30)], rows[:30]))
    assert build(path, "milvus")["removed"] == 570
    assert check_index(str(path), "milvus", IndexOptions())["recall_at_10"] > 0.95


KILLED = """
import os, signal, sys
from cvgeo.pipelines.index import IndexOptions, build_index
from cvgeo.report import Reporter
from cvgeo.retrieval import faiss_index, milvus_index
milvus_index.BATCH_ROWS = 100
class Deadly(Reporter):
    def track(self, items, what, total=None):
        for number, item in enumerate(items):
            if number == 2 or sys.argv[2] == "faiss" and number == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            yield item
faiss_index.ADD_ROWS = 100
build_index(sys.argv[1], sys.argv[2], IndexOptions(), Deadly())
"""


@pytest.mark.parametrize("kind", ["faiss", "milvus"])
def test_a_killed_build_is_repeated(request, tmp_path, kind):
    request.getfixturevalue(kind)
    rows, _ = clustered(500)
    path = add(tmp_path / "x.h5", range(500), rows)
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), kind], env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == -signal.SIGKILL
    with pytest.raises((InputError, MismatchError), match=r"no such index|another state"):
        check_index(str(path), kind, IndexOptions())
    record = build(path, kind)
    assert record["added"] == (500 if kind == "faiss" else 300), "rows that were written are not written again"
    assert check_index(str(path), kind, IndexOptions())["recall_at_10"] > 0.95
    assert not list(tmp_path.glob(".*.part")) and not list(tmp_path.glob("*.lock"))


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    rows, _ = clustered(50)
    path = add(tmp_path / "x.h5", range(50), rows)
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    for kind in ("faiss", "milvus"):
        with pytest.raises(UsageError, match=rf"pip install 'cvgeo\[{kind}\]'"):
            build(path, kind)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["x.h5", "x.h5.parts"] or not faiss_path(path).exists()


def test_auto_is_exact_unless_the_store_is_large(faiss, tmp_path, monkeypatch):
    rows, _ = clustered(100)
    path = add(tmp_path / "x.h5", range(90), rows[:90])
    build(path)
    with EmbeddingStore(path) as store:
        assert choose_index(store, "auto", None, Reporter()) is None
        monkeypatch.setattr("cvgeo.pipelines.index.AUTO_BYTES", 1)
        assert isinstance(choose_index(store, "auto", None, Reporter()), FaissIndex)
        assert choose_index(store, "exact", None, Reporter()) is None
    add(path, range(90, 100), rows[90:])
    warned = []
    reporter = Reporter()
    monkeypatch.setattr(reporter, "warn", warned.append)
    with EmbeddingStore(path) as store:
        assert choose_index(store, "auto", None, reporter) is None
        with pytest.raises(MismatchError, match="another state"):
            choose_index(store, "faiss", None, reporter)
    assert "searching exactly" in warned[0]


def test_principal_axes_are_those_of_the_covariance():
    rows, _ = clustered(500)
    reduction = learn_reduction(ArrayGallery(rows), 8)
    centred = rows - rows.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs((reduction.matrix * axes[:8]).sum(axis=1)), 1, atol=1e-3)
    short = reduction(rows)
    np.testing.assert_allclose(short.mean(axis=0), 0, atol=1e-5)
    white = learn_reduction(ArrayGallery(rows), 8, whiten=True)(rows)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(8), atol=1e-2)
    plain = learn_reduction(ArrayGallery(rows), DIMENSION, centre=False)(rows)
    np.testing.assert_allclose(plain @ plain.T, rows @ rows.T, atol=1e-4)


@pytest.mark.parametrize(("rows", "structure"), [(1, "hnsw"), (200_000, "hnsw"), (200_001, "ivfpq"), (10**8, "ivfpq")])
def test_the_plan_follows_the_number_of_rows(rows, structure):
    plan = Plan.choose(rows, 256)
    assert plan.structure == structure and plan.lists <= max(1, rows // 40)
    with pytest.raises(UsageError, match="axes"):
        Plan.choose(rows, 256, pca=256)
