from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvgeo.data.samplers import UniquePlaceBatches, geographic_neighbours, group_pairs
from cvgeo.data.schema import Pairs
from cvgeo.errors import InputError, UsageError


def aligned(count: int) -> Pairs:
    return Pairs(np.arange(count), np.arange(count), np.zeros(count))


def test_every_panorama_is_seen_once_an_epoch_when_the_batches_come_out_even() -> None:
    batches = UniquePlaceBatches(aligned(12), 12, 4, seed=3).epoch(0)
    assert [batch.shape for batch in batches] == [(4, 2)] * 3
    assert sorted(np.concatenate(batches)[:, 0].tolist()) == list(range(12))
    assert all((batch[:, 0] == batch[:, 1]).all() for batch in batches)


def test_what_fills_no_batch_is_dropped_and_differs_between_epochs() -> None:
    sampler = UniquePlaceBatches(aligned(10), 10, 4, seed=0)
    left = [frozenset(range(10)) - set(np.concatenate(sampler.epoch(epoch))[:, 0].tolist()) for epoch in range(6)]
    assert all(len(one) == 2 for one in left)
    assert len(set(left)) > 1


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    first, again = (UniquePlaceBatches(aligned(20), 20, 4, seed=5) for _ in range(2))
    again.epoch(0)
    np.testing.assert_array_equal(np.stack(first.epoch(7)), np.stack(again.epoch(7)))
    assert not np.array_equal(np.stack(first.epoch(7)), np.stack(first.epoch(8)))
    other = UniquePlaceBatches(aligned(20), 20, 4, seed=6)
    assert not np.array_equal(np.stack(first.epoch(7)), np.stack(other.epoch(7)))


@st.composite
def pair_tables(draw: st.DrawFn) -> tuple[Pairs, int]:
    panoramas, tiles = draw(st.integers(4, 30)), draw(st.integers(4, 30))
    rows = set()
    for panorama in range(panoramas):
        for tile in draw(st.lists(st.integers(0, tiles - 1), max_size=4, unique=True)):
            rows.add((panorama, tile))
    rows = sorted(rows)
    roles = draw(st.lists(st.integers(0, 1), min_size=len(rows), max_size=len(rows)))
    return Pairs([p for p, _ in rows], [t for _, t in rows], roles), panoramas


@settings(max_examples=150, deadline=None)
@given(pair_tables(), st.integers(2, 5), st.integers(0, 3))
def test_other_samples_of_a_batch_are_true_negatives(table: tuple[Pairs, int], size: int, epoch: int) -> None:
    pairs, panoramas = table
    related = {(p, t) for p, t in zip(pairs.panorama.tolist(), pairs.tile.tolist(), strict=True)}
    positive = {(p, t) for (p, t), role in zip(sorted(related), pairs.role.tolist(), strict=True) if role == 0}
    try:
        batches = UniquePlaceBatches(pairs, panoramas, size, seed=1).epoch(epoch)
    except (InputError, UsageError):
        # No batch: either too few panoramas have a positive, or all that have one are mixed up with each other.
        first = {p: {t for q, t in positive if q == p} for p, _ in positive}
        free = [p for p in first if all(p == q or not first[p] & {t for o, t in related if o == q} for q in first)]
        assert len(free) < size
        return
    seen = np.concatenate(batches)[:, 0].tolist()
    assert len(seen) == len(set(seen))
    for batch in batches:
        assert len(batch) == size
        for i, (panorama, tile) in enumerate(batch.tolist()):
            assert (panorama, tile) in positive
            for j, (_, other) in enumerate(batch.tolist()):
                assert i == j or (panorama, other) not in related


def test_a_batch_is_found_where_there_is_one() -> None:
    # Panorama 2 clashes with all others; wherever an order begins with it, the others must still make a batch.
    pairs = Pairs([0, 1, 2, 0, 1, 3, 3], [0, 1, 2, 2, 2, 3, 2], [0, 0, 0, 1, 1, 0, 1])
    sampler = UniquePlaceBatches(pairs, 4, 3, seed=0)
    for epoch in range(20):
        assert sorted(sampler.epoch(epoch)[0][:, 0].tolist()) == [0, 1, 3]


def test_a_panorama_with_several_positives_meets_all_of_them() -> None:
    pairs = Pairs([0, 0, 0, 1], [0, 1, 2, 3], [0, 0, 1, 0])
    sampler = UniquePlaceBatches(pairs, 2, 2, seed=0)
    met = {int(tile) for epoch in range(30) for panorama, tile in sampler.epoch(epoch)[0] if panorama == 0}
    assert met == {0, 1}


def test_groups_are_the_rows_of_the_table() -> None:
    grouped = group_pairs(Pairs([2, 0, 2, 0], [5, 1, 4, 3], [0, 1, 1, 0]), 3)
    assert grouped.starts.tolist() == [0, 2, 2, 4]
    assert grouped.tiles.tolist() == [1, 3, 4, 5]
    assert grouped.positive_starts.tolist() == [0, 1, 1, 2]
    assert grouped.positive_tiles.tolist() == [3, 5]
    assert grouped.semi_starts.tolist() == [0, 1, 1, 2]
    assert grouped.semi_tiles.tolist() == [1, 4]


def test_semi_positives_alone_are_nothing_to_train_on() -> None:
    with pytest.raises(InputError, match="no panorama has a positive tile"):
        UniquePlaceBatches(Pairs([0], [0], [1]), 1, 2, seed=0)


def test_a_batch_larger_than_the_set_is_named_with_the_largest_possible() -> None:
    with pytest.raises(UsageError, match=r"batch size 8 .* 5 pairs; --batch-size 5 or less"):
        UniquePlaceBatches(aligned(5), 5, 8, seed=0)


def test_panoramas_that_all_share_a_tile_make_no_batch() -> None:
    pairs = Pairs(np.arange(6), np.zeros(6), np.zeros(6))
    with pytest.raises(UsageError, match="show different places"):
        UniquePlaceBatches(pairs, 6, 2, seed=0).epoch(0)


def test_a_batch_of_one_is_refused() -> None:
    with pytest.raises(UsageError, match="negatives"):
        UniquePlaceBatches(aligned(5), 5, 1, seed=0)


def line_of(count: int, width: int) -> np.ndarray:
    """A table of neighbours on a line: the `width` nearest rows of each, nearest first."""
    distance = np.abs(np.arange(count)[:, None] - np.arange(count)[None]).astype(float)
    np.fill_diagonal(distance, np.inf)
    return np.argsort(distance, axis=1, kind="stable")[:, :width]


def literal_hard_batches(
    order: list[int],
    table: np.ndarray,
    tiles_of: list[set[int]],
    size: int,
    select: int,
    generator: np.random.Generator,
) -> list[list[int]]:
    """Sample4Geo's rule, one sample at a time, with sets of tiles that must not meet."""
    unused, batches, pending = set(order), [], list(order)
    while len(unused) >= size:
        batch: list[int] = []
        for anchor in pending:
            if len(batch) == size:
                break
            if anchor not in unused or any(tiles_of[anchor] & tiles_of[other] for other in batch):
                continue
            batch.append(anchor)
            unused.discard(anchor)
            pool = [one for one in table[anchor].tolist() if one >= 0]
            nearest, rest = pool[: select // 2], np.array(pool[select // 2 :], dtype=np.int64)
            company = nearest + generator.permutation(rest)[: select - select // 2].tolist()
            for other in company:
                if len(batch) < size and other in unused and not any(tiles_of[other] & tiles_of[one] for one in batch):
                    batch.append(other)
                    unused.discard(other)
        if len(batch) < size:
            break
        batches.append(batch)
    return batches


@settings(max_examples=60, deadline=None)
@given(pair_tables(), st.integers(2, 5), st.integers(2, 6), st.integers(0, 3))
def test_hard_batches_follow_the_rule(table: tuple[Pairs, int], size: int, select: int, epoch: int) -> None:
    pairs, panoramas = table
    try:
        sampler = UniquePlaceBatches(pairs, panoramas, size, seed=1, select=select, apart=True)
    except (InputError, UsageError):
        return
    sampler.neighbours = line_of(panoramas, min(8, panoramas - 1))
    sampler.neighbours[0, 2:] = -1
    generator = np.random.default_rng([1, epoch, 0])
    order = generator.permutation(sampler.panoramas)
    generator.random(len(order))
    tiles_of = [set(pairs.tile[pairs.panorama == row].tolist()) for row in range(panoramas)]
    expected = literal_hard_batches(order.tolist(), sampler.neighbours, tiles_of, size, select, generator)
    try:
        batches = sampler.epoch(epoch)
    except UsageError:
        batches = []
    assert [batch[:, 0].tolist() for batch in batches] == expected
    for batch in batches:
        tiles = [tile for panorama in batch[:, 0] for tile in tiles_of[panorama]]
        assert len(tiles) == len(set(tiles))


def test_hard_batches_hold_neighbours_and_everybody_once() -> None:
    count = 400
    sampler = UniquePlaceBatches(aligned(count), count, 8, seed=0, select=4)
    apart = [np.abs(np.diff(np.sort(batch[:, 0]))).min() for batch in sampler.epoch(0)]
    sampler.neighbours = line_of(count, 8)
    batches = sampler.epoch(0)
    close = [np.abs(np.diff(np.sort(batch[:, 0]))).min() for batch in batches]
    assert np.mean(close) < 1.5 < np.mean(apart)
    seen = np.concatenate(batches)[:, 0].tolist()
    assert len(seen) == len(set(seen)) == count
    np.testing.assert_array_equal(np.stack(batches), np.stack(sampler.epoch(0)))
    assert not np.array_equal(np.stack(batches), np.stack(sampler.epoch(1)))


def test_packing_takes_time_in_step_with_the_samples() -> None:
    def tries(count: int) -> int:
        sampler = UniquePlaceBatches(aligned(count), count, 16, seed=0, select=16)
        sampler.neighbours = line_of(count, 32)
        calls = []
        company = sampler._company
        sampler._company = lambda *given: calls.append(1) or company(*given)
        assert len(sampler.epoch(0)) == count // 16
        return len(calls)

    assert tries(1600) < 2.5 * tries(800)


def test_semi_positive_tiles_come_as_a_third_column() -> None:
    pairs = Pairs([0, 0, 0, 1, 1, 2, 3], [0, 4, 5, 1, 6, 2, 3], [0, 1, 1, 0, 1, 0, 0])
    sampler = UniquePlaceBatches(pairs, 4, 4, seed=0)
    met: dict[int, set[int]] = {}
    for epoch in range(30):
        (plain,), (batch,) = sampler.epoch(epoch), sampler.epoch(epoch, semi_positives=True)
        np.testing.assert_array_equal(batch[:, :2], plain)
        for panorama, _, semi in batch.tolist():
            met.setdefault(panorama, set()).add(semi)
    assert met == {0: {4, 5}, 1: {6}, 2: {-1}, 3: {-1}}


def test_geographic_neighbours_skip_what_has_no_place() -> None:
    lat = 10 + np.array([0.0, 3.0, 1.0, np.nan, 0.4, 9.0]) * 1e-4
    lon = np.full(6, 179.99999)
    lon[2] = -179.99999  # the other side of the date line is near
    table = geographic_neighbours(lat, lon, np.array([0, 1, 2, 3, 4]), 3)
    assert table.tolist() == [[4, 2, 1], [2, 4, 0], [4, 0, 1], [-1] * 3, [0, 2, 1], [-1] * 3]
