import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from cvgeo.errors import InputError
from cvgeo.retrieval import EmbeddingStore, StoreHeader, StoreRows, exact, writing
from cvgeo.retrieval.exact import ArrayGallery, Part, ranks, reverse_ranks, search
from cvgeo.retrieval.heading import RollingScorer, Scorer, VariantScorer
from cvgeo.retrieval.peaks import best_turn


def small_blocks(monkeypatch, rows, scores=1 << 22, threads=1):
    monkeypatch.setattr(exact.torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(exact, "BLOCK_ROWS", rows)
    monkeypatch.setattr(exact, "SCORES_AT_ONCE", scores)


def naive_search(scores, k):
    order = np.array([sorted(range(len(row)), key=lambda n: (-row[n], n))[:k] for row in scores.tolist()])
    return order.reshape(len(scores), -1), np.take_along_axis(scores, order.reshape(len(scores), -1), axis=1)


def naive_rank(scores, positives, passed_over=()):
    if not positives:
        return 0
    best = max(scores[n] for n in positives)
    return 1 + sum(scores[n] >= best for n in range(len(scores)) if n not in positives and n not in passed_over)


# Small whole numbers: inner products are exact, so that ties are true ties.
threads_or_one = st.sampled_from([1, 3])
matrices = st.tuples(st.integers(1, 40), st.integers(1, 6), st.integers(1, 4), st.integers(0, 2**32 - 1))


@settings(max_examples=60, deadline=None)
@given(matrices, st.integers(1, 50), st.integers(1, 17), st.sampled_from([1, 64, 1 << 22]), threads_or_one)
def test_search_equals_the_full_matrix(shape, k, block_rows, scores_at_once, threads):
    count, queries, dimension, seed = shape
    generator = np.random.default_rng(seed)
    gallery = generator.integers(-2, 3, (count, dimension)).astype(np.float32)
    query = generator.integers(-2, 3, (queries, dimension)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch, block_rows, scores_at_once, threads)
        rows, scores = search(ArrayGallery(gallery), query, k)
    expected_rows, expected_scores = naive_search(query @ gallery.T, min(k, count))
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(scores, expected_scores)


def ranked_in_blocks(ranking, shape, *blocks):
    """What a ranking finds of drawn queries and tiles in small blocks, all scores (Q, N), and the roles (Q, N)."""
    count, queries, dimension, seed = shape
    generator = np.random.default_rng(seed)
    gallery = generator.integers(-1, 2, (count, dimension)).astype(np.float32)
    query = generator.integers(-1, 2, (queries, dimension)).astype(np.float32)
    role = generator.choice(3, size=(queries, count), p=[0.7, 0.15, 0.15])
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch, *blocks)
        found = ranking(ArrayGallery(gallery), query, np.nonzero(role == 1), np.nonzero(role == 2))
    return found, query @ gallery.T, role


@settings(max_examples=60, deadline=None)
@given(matrices, st.integers(1, 17), st.sampled_from([1, 64, 1 << 22]), threads_or_one)
def test_ranks_equal_the_full_matrix(shape, block_rows, scores_at_once, threads):
    found, scores, role = ranked_in_blocks(ranks, shape, block_rows, scores_at_once, threads)
    np.testing.assert_array_equal(found.top, scores.argmax(axis=1))
    np.testing.assert_array_equal(found.top_score, scores.max(axis=1))
    for number in range(len(role)):
        positive = set(np.flatnonzero(role[number] == 1).tolist())
        semi = set(np.flatnonzero(role[number] == 2).tolist())
        assert found.exact[number] == naive_rank(scores[number], positive)
        assert found.masked[number] == naive_rank(scores[number], positive, semi)


@settings(max_examples=60, deadline=None)
@given(matrices, st.integers(1, 17), st.sampled_from([1, 64, 1 << 22]), threads_or_one)
def test_reverse_ranks_equal_the_full_matrix(shape, block_rows, scores_at_once, threads):
    found, scores, role = ranked_in_blocks(reverse_ranks, shape, block_rows, scores_at_once, threads)
    np.testing.assert_array_equal(found.top, scores.argmax(axis=0))
    np.testing.assert_array_equal(found.top_score, scores.max(axis=0))
    for number in range(role.shape[1]):
        positive, semi = (set(np.flatnonzero(role[:, number] == kind).tolist()) for kind in (1, 2))
        assert found.exact[number] == naive_rank(scores[:, number], positive)
        assert found.masked[number] == naive_rank(scores[:, number], positive, semi)


def test_equal_embeddings_rank_last_at_any_place():
    # 13 columns and odd sizes: the last bits of float32 scores differ within a block.
    row = np.random.default_rng(0).normal(size=13).astype(np.float32)
    gallery = ArrayGallery(np.tile(row / np.linalg.norm(row), (1001, 1)))
    queries = np.tile(row / np.linalg.norm(row), (7, 1))
    found = ranks(gallery, queries, (np.arange(7), np.array([0, 1, 500, 998, 999, 1000, 3])))
    assert (found.exact == 1001).all()


def test_search_over_a_store_with_parts(tmp_path, monkeypatch):
    small_blocks(monkeypatch, 7)
    generator = np.random.default_rng(1)
    gallery = generator.normal(size=(50, 16))
    gallery = (gallery / np.linalg.norm(gallery, axis=1, keepdims=True)).astype(np.float16)
    ids = [str(i) for i in range(50)]
    with writing(tmp_path / "x.h5", StoreHeader(fingerprint="f", dimension=16, view="aerial")) as writer:
        for start in (0, 20, 45):
            writer.add(StoreRows.of(ids[start : start + 30], gallery[start : start + 30]))
    queries = generator.normal(size=(5, 16)).astype(np.float32)
    with EmbeddingStore(tmp_path / "x.h5") as store:
        rows, scores = search(store, queries, 6)
        order = [int(id) for id in store.columns.id]
    expected_rows, expected_scores = naive_search(queries @ gallery[order].astype(np.float32).T, 6)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)


def test_part_of_a_gallery(monkeypatch):
    small_blocks(monkeypatch, 4)
    generator = np.random.default_rng(2)
    gallery, queries = generator.integers(-3, 4, (30, 4)).astype(np.float32), generator.integers(-3, 4, (3, 4))
    rows = np.array([0, 3, 4, 5, 17, 29])
    found, _ = search(Part(ArrayGallery(gallery), rows), queries, 4)
    np.testing.assert_array_equal(found, naive_search(queries @ gallery[rows].T, 4)[0])
    with pytest.raises(ValueError, match="ascend"):
        Part(ArrayGallery(gallery), np.array([3, 1]))


def test_no_gallery_and_no_queries():
    rows, scores = search(ArrayGallery(np.zeros((0, 4))), np.zeros((2, 4)), 5)
    assert rows.shape == scores.shape == (2, 0)
    rows, _ = search(ArrayGallery(np.zeros((3, 4))), np.zeros((0, 4)), 5)
    assert rows.shape == (0, 3)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("row", [3, 77])
def test_scores_that_are_not_finite_are_refused(bad, row, threads, monkeypatch):
    small_blocks(monkeypatch, 10, threads=threads)
    gallery = np.ones((80, 4), np.float16)
    gallery[row, 2] = bad
    before = threadpool_info()
    with pytest.raises(InputError, match=f"not finite in rows {row // 10 * 10} to"):
        search(ArrayGallery(gallery), np.ones((1, 4)), 3)
    assert threadpool_info() == before


def test_threads_do_not_change_the_result(monkeypatch):
    generator = np.random.default_rng(5)
    gallery, queries = (generator.normal(size=(count, 32)).astype(np.float32) for count in (1000, 70))
    pairs = np.arange(70), generator.integers(0, 1000, 70)
    found = []
    for threads in (1, 2, 7):
        small_blocks(monkeypatch, 64, threads=threads)
        found.append((search(ArrayGallery(gallery), queries, 5), ranks(ArrayGallery(gallery), queries, pairs)))
    for (rows, scores), ranked in found[1:]:
        np.testing.assert_array_equal(rows, found[0][0][0])
        np.testing.assert_allclose(scores, found[0][0][1], rtol=1e-6)
        np.testing.assert_array_equal(ranked.exact, found[0][1].exact)
        np.testing.assert_array_equal(ranked.top, found[0][1].top)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 9), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_rolling_scores_equal_explicit_rolls(columns, channels, seed):
    generator = np.random.default_rng(seed)
    queries = generator.normal(size=(3, columns, channels)).astype(np.float32)
    gallery = generator.normal(size=(11, columns, channels)).astype(np.float32)
    scorer = RollingScorer(queries.reshape(3, -1), columns)
    found = scorer.scores(slice(0, 3), scorer.prepare(gallery.reshape(11, -1)))
    turns = scorer.turns(np.array([1]), gallery.reshape(11, -1)[[4]])[0]
    for q in range(3):
        for n in range(11):
            rolled = [float((np.roll(queries[q], s, axis=0) * gallery[n]).sum()) for s in range(columns)]
            assert found[q, n] == pytest.approx(max(rolled), abs=1e-4)
            if (q, n) == (1, 4):
                np.testing.assert_allclose(turns, rolled, atol=1e-4)


def test_rolled_queries_are_found_with_their_turn(monkeypatch):
    small_blocks(monkeypatch, 16)
    generator = np.random.default_rng(3)
    gallery = generator.normal(size=(100, 20, 8)).astype(np.float32)
    gallery /= np.linalg.norm(gallery, axis=(1, 2), keepdims=True)
    turned = np.arange(100) % 20
    # The picture's column 0 really looks 18 degrees a column further clockwise than it was placed.
    queries = np.stack([np.roll(tile, -turn, axis=0) for tile, turn in zip(gallery, turned, strict=True)])
    scorer = RollingScorer(queries.reshape(100, -1), 20)
    flat = ArrayGallery(gallery.reshape(100, -1))
    rows, scores = search(flat, scorer, 3)
    np.testing.assert_array_equal(rows[:, 0], np.arange(100))
    np.testing.assert_allclose(scores[:, 0], 1.0, atol=1e-5)
    headings = best_turn(scorer.turns(np.arange(100), flat.fetch(rows[:, 0])))
    apart = (headings - turned * 18.0 + 180) % 360 - 180
    assert np.abs(apart).max() < 9.0
    found = ranks(flat, scorer, (np.arange(100), np.arange(100)))
    assert (found.exact == 1).all()


def test_variants_count_by_their_best():
    generator = np.random.default_rng(4)
    queries, gallery = generator.normal(size=(3, 5, 6)), generator.normal(size=(9, 6)).astype(np.float32)
    rows, _ = search(ArrayGallery(gallery), VariantScorer(queries), 2)
    full = np.einsum("qvd,nd->qvn", queries.astype(np.float32), gallery).max(axis=1)
    np.testing.assert_array_equal(rows, naive_search(full, 2)[0])


def test_queries_at_their_best_turn():
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(3, 6, 2)).astype(np.float32)
    turned = np.stack([np.roll(row, -turn, axis=0) for row, turn in zip(rows, (1, 0, 5), strict=True)])
    pairs, flat = np.arange(3), rows.reshape(3, -1)
    found = RollingScorer(turned.reshape(3, -1), 6).at_best_turn(pairs, flat)
    np.testing.assert_array_equal(found, flat)
    variants = np.stack([turned.reshape(3, -1), flat, -flat], axis=1)
    np.testing.assert_array_equal(VariantScorer(variants).at_best_turn(pairs, flat), flat)
    np.testing.assert_array_equal(Scorer(flat).at_best_turn(pairs[:1] + 2, flat[2:]), flat[2:])


@pytest.mark.parametrize("peak", [0.0, 10.0, 95.0, 179.0, 350.0, 359.9])
def test_best_turn_is_finer_than_the_turns(peak):
    angles = np.arange(24) * 15.0
    scores = np.cos(np.deg2rad(angles - peak))[None]
    apart = (best_turn(scores)[0] - peak + 180) % 360 - 180
    assert abs(apart) < 0.5
    assert 0 <= best_turn(scores)[0] < 360


def test_best_turn_of_a_flat_curve_and_of_one_turn():
    assert best_turn(np.ones((2, 8))).tolist() == [0.0, 0.0]
    assert best_turn(np.ones((2, 1))).tolist() == [0.0, 0.0]
