"""`cvgeo evaluate`: how well a model finds the panoramas of a data set among its tiles."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cvgeo.data.conventions import check_conventions, conventions_of
from cvgeo.data.missing import without_missing
from cvgeo.data.readers import open_dataset
from cvgeo.data.schema import POSITIVE, SEMI_POSITIVE, Dataset
from cvgeo.errors import InputError, UsageError
from cvgeo.evaluation import metrics
from cvgeo.evaluation.calibration import area_under_roc
from cvgeo.evaluation.paired import OtherAnswers
from cvgeo.geometry.geodesy import distance_m, move, offset_metres
from cvgeo.losses import OffsetRegressionLoss
from cvgeo.paths import scratch_folder, write_text
from cvgeo.pipelines.answers import FULL_TURN, Answers, EvaluateOptions, choose_split, embed_queries, with_distractors
from cvgeo.pipelines.azimuth import azimuth_finder, headings_of
from cvgeo.pipelines.embed import (
    EmbedOptions,
    dataset_source,
    embed_source,
    header_of,
    load_azimuth_model,
    load_model,
)
from cvgeo.pipelines.probabilities import fit_probabilities, judged_queries
from cvgeo.report import Reporter, json_line
from cvgeo.retrieval import EmbeddingStore
from cvgeo.retrieval.exact import Part, Ranks, ranks, reverse_ranks
from cvgeo.retrieval.heading import Scorer
from cvgeo.retrieval.peaks import fit_sharpness, seen_share, share_within
from cvgeo.training.calibration import require_checkpoint
from cvgeo.training.checkpoint import annotate, heading_sharpness, load_offset_head, trained_conventions

COLLAPSE_SAMPLE = 1000
JSON_LINES = (".jsonl", ".json")
HEAD_ROWS = 4096  # pairs that the offset head is given at once
POOLED = "within sources"
REVERSE = ", aerial to ground"  # ends the scopes in which tiles are searched among panoramas


@dataclass
class _Headings:
    """Headings that were found, query by query: degrees that they are off (Q,), and curves of the scores (Q, T).

    `errors` and `curves` by the right tile, `top` and `top_curves` by the one that came first; NaN where the true
    heading is unknown. `hfov` (Q,) is what was seen.
    """

    errors: np.ndarray
    top: np.ndarray
    curves: np.ndarray
    top_curves: np.ndarray
    hfov: np.ndarray

    def sds(self, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
        """How uncertain the headings by the right and by the top tiles are, (Q,) and (Q,) degrees."""
        right, top = (headings_of(curves, self.hfov, sharpness)[1] for curves in (self.curves, self.top_curves))
        return right, top

    def take(self, some: np.ndarray) -> _Headings:
        """Those of some of the queries."""
        return _Headings(*(getattr(self, one.name)[some] for one in fields(self)))


@dataclass
class _Outcome:
    """What came out for the queries of one scope, row by row.

    `queries` are numbers of `Answers.queries` and `top` rows of the store; where `reverse`, the other way around.
    """

    scope: str
    queries: np.ndarray
    gallery: np.ndarray
    positives: np.ndarray
    ranks: Ranks
    top: np.ndarray
    score: np.ndarray
    covers: np.ndarray
    errors_m: np.ndarray
    headings: _Headings | None = None
    offset_errors_m: np.ndarray | None = None
    reverse: bool = False

    def ends(self, answers: Answers) -> tuple[np.ndarray, np.ndarray]:
        """Row of the panoramas' table and row of the store (Q,) of each query and what came first for it."""
        panoramas, tiles = (self.top, self.queries) if self.reverse else (self.queries, self.top)
        return answers.queries.rows[panoramas], tiles


def _pairs_in(answers: Answers, queries: np.ndarray, gallery: np.ndarray, role: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a role as positions among these queries and among these (ascending) rows of the store."""
    pairs = answers.data.pairs
    position = np.full(len(answers.data.panoramas), -1)
    position[answers.queries.rows[queries]] = np.arange(len(queries))
    query, row = position[pairs.panorama], answers.tile_row[pairs.tile]
    place = np.minimum(np.searchsorted(gallery, row), len(gallery) - 1)
    keep = (pairs.role == role) & (query >= 0) & (row >= 0) & (gallery[place] == row)
    return query[keep], place[keep]


def _evaluate_scope(answers: Answers, scope: str, queries: np.ndarray, tiles: np.ndarray) -> _Outcome | None:
    """One scope: these queries among these tiles of the data set; None where no query has a positive among them."""
    gallery = np.unique(answers.tile_row[tiles])
    gallery = gallery[gallery >= 0]
    if not len(gallery) or not len(queries):
        return None
    with_positive = np.unique(_pairs_in(answers, queries, gallery, POSITIVE)[0])
    queries = queries[with_positive]
    if not len(queries):
        return None
    positive = _pairs_in(answers, queries, gallery, POSITIVE)
    semi = _pairs_in(answers, queries, gallery, SEMI_POSITIVE)
    scorer, part = answers.queries.part(queries), Part(answers.store, gallery)
    ranked = ranks(part, scorer, positive, semi)
    counts = np.bincount(positive[0], minlength=len(queries))
    paired = set(zip(*(np.concatenate(both).tolist() for both in zip(positive, semi, strict=True)), strict=True))
    outcome = _Outcome(
        scope,
        queries,
        np.full(len(queries), len(gallery)),
        counts,
        ranked,
        gallery[ranked.top],
        ranked.top_score,
        np.array([(query, place) in paired for query, place in enumerate(ranked.top.tolist())]),
        np.full(len(queries), np.nan),
    )
    _add_distances(answers, outcome)
    if answers.head is not None:
        outcome.offset_errors_m = _offset_errors(answers, answers.head, outcome, scorer)
    if answers.queries.turns > 1:
        _, first = np.unique(positive[0], return_index=True)
        outcome.headings = _headings(answers, outcome, scorer, gallery[positive[1][first]])
    return outcome


def _evaluate_reverse(answers: Answers, scope: str, queries: np.ndarray, tiles: np.ndarray) -> _Outcome | None:
    """One scope the other way: its tiles among its panoramas; None where no tile has a positive among them."""
    gallery = np.unique(answers.tile_row[tiles])
    gallery = gallery[gallery >= 0]
    if not len(gallery) or not len(queries):
        return None
    positive, semi = (_pairs_in(answers, queries, gallery, role) for role in (POSITIVE, SEMI_POSITIVE))
    found = reverse_ranks(Part(answers.store, gallery), answers.queries.part(queries), positive, semi)
    asked = np.flatnonzero(found.exact)
    if not len(asked):
        return None
    paired = set(zip(*(np.concatenate(both).tolist() for both in zip(positive, semi, strict=True)), strict=True))
    outcome = _Outcome(
        scope + REVERSE,
        gallery[asked],
        np.full(len(asked), len(queries)),
        np.bincount(positive[1], minlength=len(gallery))[asked],
        Ranks(*(values[asked] for values in vars(found).values())),
        queries[found.top[asked]],
        found.top_score[asked],
        np.array([(found.top[place], place) in paired for place in asked.tolist()]),
        np.full(len(asked), np.nan),
        reverse=True,
    )
    _add_distances(answers, outcome)
    return outcome


def _headings(answers: Answers, outcome: _Outcome, scorer: Scorer, right: np.ndarray) -> _Headings:
    """How far off the headings are that the right tiles (Q,) and the top ones give."""
    rows = answers.queries.rows[outcome.queries]
    every = np.arange(len(rows))
    if answers.azimuth is None:
        curves, top = (scorer.curves(every, answers.store.fetch(tiles)) for tiles in (right, outcome.top))
    else:
        curves, top = (_azimuth_curves(answers, rows, tiles) for tiles in (right, outcome.top))
    apart = [headings_of(one, FULL_TURN, 1.0)[0] + answers.queries.turned[rows] for one in (curves, top)]
    errors = ((one + FULL_TURN / 2) % FULL_TURN - FULL_TURN / 2 for one in apart)
    return _Headings(*errors, curves, top, answers.queries.hfov[rows])


def _azimuth_curves(answers: Answers, panoramas: np.ndarray, tiles: np.ndarray) -> np.ndarray:
    """Scores (Q, A) of panoramas and rows of the store at every turn by the azimuth model; NaN where one is missing."""
    queries = answers.azimuth_queries
    place = np.searchsorted(queries.rows, panoramas).clip(max=len(queries.rows) - 1)
    curves = answers.azimuth.curves(queries.scorer, place, tiles)
    curves[queries.rows[place] != panoramas] = np.nan
    return curves


def _add_distances(answers: Answers, outcome: _Outcome) -> None:
    """How far the tile's centre is from the panorama, and whether the tile shows its place."""
    table, columns = answers.data.panoramas, answers.store.columns
    rows, tiles = outcome.ends(answers)
    places = np.stack([table.lat[rows], table.lon[rows], columns.lat[tiles], columns.lon[tiles]])
    known = ~np.isnan(places).any(axis=0)
    if not known.any():
        return
    outcome.errors_m[known] = distance_m(*places[:, known])
    north, east = offset_metres(*places[:, known])
    half = columns.ground_m[tiles[known]] / 2
    outcome.covers[known] |= (np.abs(north) <= half) & (np.abs(east) <= half)


@torch.inference_mode()
def _offset_errors(answers: Answers, head: OffsetRegressionLoss, outcome: _Outcome, scorer: Scorer) -> np.ndarray:
    """Metres (Q,) between a panorama and where the offset head puts it within the top tile, NaN where unknown."""
    table, columns, top = answers.data.panoramas, answers.store.columns, outcome.top
    predicted = np.empty((len(top), 2))
    for start in range(0, len(top), HEAD_ROWS):
        some = np.arange(start, min(start + HEAD_ROWS, len(top)))
        tiles = answers.store.fetch(top[some])
        ground = scorer.at_best_turn(some, tiles)
        predicted[some] = head.predict(torch.from_numpy(ground), torch.from_numpy(tiles)).numpy()
    errors = np.full(len(top), np.nan)
    known = ~np.isnan(outcome.errors_m) & np.isfinite(columns.ground_m[top])
    rows, top = answers.queries.rows[outcome.queries][known], top[known]
    north, east = predicted[known].T * columns.ground_m[top]
    found = move(columns.lat[top], columns.lon[top], north, east)
    errors[known] = distance_m(table.lat[rows], table.lon[rows], *found)
    return errors


def _pooled(outcomes: list[_Outcome]) -> _Outcome:
    """Several scopes as one: each query keeps the gallery that it was searched in."""

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(one, name) for one in outcomes])

    found = [one.ranks for one in outcomes]
    pooled_ranks = Ranks(*(np.concatenate([getattr(one, key) for one in found]) for key in vars(found[0])))
    arrays = {name: joined(name) for name in ("queries", "gallery", "positives", "top", "score", "covers", "errors_m")}
    headings = None
    if outcomes[0].headings is not None:
        every = [one.headings for one in outcomes]
        headings = _Headings(
            *(np.concatenate([getattr(headings, one.name) for headings in every]) for one in fields(_Headings))
        )
    offsets = joined("offset_errors_m") if outcomes[0].offset_errors_m is not None else None
    rest = {"headings": headings, "offset_errors_m": offsets, "reverse": outcomes[0].reverse}
    scope = POOLED + REVERSE * outcomes[0].reverse
    return _Outcome(scope, ranks=pooled_ranks, **rest, **arrays)


def _record(
    outcome: _Outcome, turns: int, protocol: str | None, hfov: float | None, sharpness: float
) -> dict[str, Any]:
    sizes = np.unique(outcome.gallery)
    record = {
        "scope": outcome.scope,
        "protocol": protocol,
        "queries": len(outcome.queries),
        "gallery": int(sizes[0]) if len(sizes) == 1 else round(float(outcome.gallery.mean()), 1),
        "chance": float(np.mean(outcome.positives / outcome.gallery)),
        **metrics.summarise(
            outcome.ranks.exact,
            outcome.gallery,
            masked=outcome.ranks.masked,
            covers=outcome.covers,
            errors_m=outcome.errors_m,
            offset_errors_m=outcome.offset_errors_m,
        ),
    }
    if hfov is not None:
        record["hfov"] = hfov
    if outcome.headings is not None:
        found = outcome.headings
        record |= metrics.heading_metrics(found.errors, FULL_TURN / turns, found.top)
        sd, top_sd = found.sds(sharpness)
        record["median_heading_sd_deg"] = float(np.nanmedian(sd))
        record["heading_within_sd"] = share_within(found.errors, sd)
        record["heading_within_2sd"] = share_within(found.errors, 2 * sd)
        record |= _top_uncertainty(found.top, top_sd, outcome.covers)
    return record


def _top_uncertainty(errors: np.ndarray, sd: np.ndarray, covers: np.ndarray) -> dict[str, float]:
    """Whether the uncertainty of the top tiles' headings says which of these tiles are wrong.

    Args:
        errors, sd: (Q,) degrees.
        covers: (Q,) bool, whether the tile shows the camera.
    """
    record, known = {}, ~np.isnan(errors) & ~np.isnan(sd)
    for name, some in (("right", covers & known), ("wrong", ~covers & known)):
        record[f"top_{name}_heading_within_2sd"] = share_within(errors[some], 2 * sd[some])
        record[f"top_{name}_median_heading_sd_deg"] = float(np.median(sd[some])) if some.any() else math.nan
    record["heading_sd_auc"] = area_under_roc(sd[~covers & known], sd[covers & known])
    return record


def _scopes(answers: Answers, options: EvaluateOptions) -> Iterator[_Outcome]:
    yield from _direction(answers, options, _evaluate_scope)
    if options.both_ways:
        yield from _direction(answers, options, _evaluate_reverse)


def _direction(
    answers: Answers, options: EvaluateOptions, measure: Callable[..., _Outcome | None]
) -> Iterator[_Outcome]:
    """The split as a whole, each source among its own, and these as one; distractors stand in every gallery."""
    data, every_query = answers.data, np.arange(len(answers.queries.rows))
    overall = measure(answers, "overall", every_query, np.arange(len(data.tiles)))
    if overall is None:
        raise InputError("no panorama with its tile could be embedded", path=data.root, mend="see the failures above")
    yield overall
    sources = sorted(set(data.panoramas.source) - {""})
    if not options.within_source and len(sources) < 2:
        return
    within, own = [], len(data.tiles) - answers.distractors
    for source in sources:
        queries = np.array([q for q in every_query if data.panoramas.source[answers.queries.rows[q]] == source], int)
        tiles = np.array([t for t, name in enumerate(data.tiles.source) if name == source or t >= own], int)
        outcome = measure(answers, f"within {source}", queries, tiles)
        if outcome is not None:
            within.append(outcome)
            yield outcome
    if within:
        yield _pooled(within)


def _outcomes(answers: Answers, options: EvaluateOptions, reporter: Reporter) -> list[_Outcome]:
    """The outcome of every scope; what is odd about the first is told."""
    reporter.now(f"comparing {len(answers.queries.rows):,} panoramas with {len(answers.store):,} tiles")
    outcomes = list(_scopes(answers, options))
    _warn(answers, outcomes[0], reporter)
    return outcomes


def evaluate(
    dataset: str,
    model: str,
    weights: str | None = None,
    store: str | None = None,
    query_store: str | None = None,
    per_query: Path | None = None,
    reliability: Path | None = None,
    against: Path | None = None,
    *,
    reporter: Reporter,
    options: EvaluateOptions | None = None,
    embedding: EmbedOptions | None = None,
) -> list[dict[str, Any]]:
    """Search each panorama of a split among the tiles of that split.

    Args:
        dataset: name or path.
        model, weights: as for `cvgeo embed`.
        store, query_store: stores of the tiles and of the panoramas, brought up to date; temporary ones by default.
        per_query: CSV (or .jsonl) file of each query's outcome, the overall one first.
        reliability: .png or .svg file of the reliability diagram; the model must be calibrated.
        against: the file of another model's outcomes on the same queries, to which the differences are given.

    Returns:
        A record for the split as a whole; for a data set of several sources (or on demand) one for each source among
        its own tiles, and one over all of these; and as many the other way where `both_ways`.
    """
    options, embedding = options or EvaluateOptions(), embedding or EmbedOptions()
    other = None if against is None else OtherAnswers(against)
    data, distractors = _opened(dataset, model, options, embedding, reporter)
    embedder, *reference = load_model(model, weights, embedding.device)
    with scratch_folder() as scratch:
        tiles_path = Path(store or scratch / "tiles.h5")
        header = header_of(embedder, *reference, "aerial", data.conventions)
        tiles = dataset_source(data, "aerial", embedder)
        if options.azimuth is not None and _keeps_maps(store):
            maps = load_azimuth_model(options.azimuth, weights, embedding.device)
            tiles, header = tiles.with_azimuth(maps), maps.on(header)
        embed_source(tiles, embedder, header, tiles_path, embedding, reporter)
        path = Path(query_store or scratch / "queries.h5")
        queries = embed_queries(data, embedder, path, tuple(reference), options, embedding, reporter)
        with EmbeddingStore(tiles_path) as gallery:
            head = load_offset_head(reference[0], embedder.descriptor_size)
            answers = Answers(data, gallery, queries, head, distractors=distractors)
            if options.azimuth is not None:
                _add_azimuth(answers, weights, scratch, options, embedding, reporter)
            outcomes = _outcomes(answers, options, reporter)
            sharpness = _sharpness(options.azimuth or reference[0], outcomes[0], options, reporter)
            if options.calibrate:
                fit_probabilities(answers, embedder, tuple(reference), scratch, options, embedding, reporter)
            judged = judged_queries(answers, reference[0], options, reliability)
            rows = _rows_by_scope(answers, outcomes, sharpness)
    if per_query is not None:
        write_text(per_query, _per_query(rows, per_query.suffix.lower() in JSON_LINES))
    said = queries.turns, _protocol(data, reporter), options.hfov, sharpness
    records = [_record(one, *said) | _beside(own, distractors, other) for one, own in zip(outcomes, rows, strict=True)]
    records[0] |= {} if judged is None else judged.record()
    return records


def _opened(
    dataset: str, model: str, options: EvaluateOptions, embedding: EmbedOptions, reporter: Reporter
) -> tuple[Dataset, int]:
    """The split that is evaluated, by the conventions that the model was trained with, and how many distractors."""
    if options.calibrate:
        require_checkpoint(model)
    data = choose_split(open_dataset(dataset), options.split, reporter)
    data = without_missing(data, embedding.skip_missing, reporter)
    trained = trained_conventions(model)
    check_conventions(trained, conventions_of(data), "both", data.root, embedding.allow_mismatch, reporter)
    return with_distractors(data, options.distractors, embedding.skip_missing, reporter)


def _beside(rows: list[dict[str, Any]], distractors: int, other: OtherAnswers | None) -> dict[str, Any]:
    """What a scope's record says of other tiles and of another model."""
    return ({"distractors": distractors} if distractors else {}) | ({} if other is None else other.differences(rows))


def _protocol(data: Dataset, reporter: Reporter) -> str | None:
    """What the data set's readers say of how it is evaluated, told."""
    protocol = "; ".join(dict.fromkeys(data.protocols.values())) or None
    if protocol:
        reporter.note(f"protocol: {protocol}")
    return protocol


def _keeps_maps(store: str | None) -> bool:
    """Whether a store that is kept holds azimuth maps, or is yet to be made; in others the shortlist's are enough."""
    if store is None or not os.path.exists(store):
        return store is not None
    with EmbeddingStore(store) as there:
        return there.header.azimuth_dimension > 0


def _add_azimuth(
    answers: Answers,
    weights: str | None,
    scratch: Path,
    options: EvaluateOptions,
    embedding: EmbedOptions,
    reporter: Reporter,
) -> None:
    """Have headings found by the azimuth model."""
    finder = azimuth_finder(answers.store, options.azimuth, weights, embedding.device, reporter)
    model = finder.azimuth
    reference = model.reference, model.weights
    path = scratch / "azimuth.h5"
    answers.azimuth = finder
    answers.azimuth_queries = embed_queries(answers.data, model.model, path, reference, options, embedding, reporter)


def _sharpness(reference: str, overall: _Outcome, options: EvaluateOptions, reporter: Reporter) -> float:
    """How scores become probabilities of headings: as the checkpoint says, or measured here and written to it."""
    if not options.calibrate_heading:
        return heading_sharpness(reference)
    if overall.headings is None:
        raise UsageError("headings can be calibrated where they are unknown", mend="add --heading unknown")
    found = overall.headings.take(np.flatnonzero(~np.isnan(overall.headings.errors)))
    if not len(found.errors):
        raise InputError("no panorama has a known heading to calibrate with", mend="use a data set that has them")
    sharpness = round(fit_sharpness(found.curves, seen_share(found.hfov), found.errors), 4)
    annotate(reference, heading_sharpness=sharpness)
    reporter.note(f"{reference}: holds the sharpness of headings {sharpness:.4g}, of {len(found.errors)} queries")
    return sharpness


def _warn(answers: Answers, overall: _Outcome, reporter: Reporter) -> None:
    rows = answers.tile_row[answers.tile_row >= 0]
    sample = rows[:: max(1, len(rows) // COLLAPSE_SAMPLE)]
    if metrics.collapsed(answers.store.fetch(sample)):
        reporter.warn("all tiles have (nearly) the same embedding: the model tells no place from another")
    left_out = len(answers.data.panoramas) - len(overall.queries)
    if left_out:
        reporter.warn(f"{left_out} panoramas are left out: they, or their tiles, are not there or have no pair")


def _rows_by_scope(answers: Answers, outcomes: list[_Outcome], sharpness: float) -> list[list[dict[str, Any]]]:
    """Each query's outcome, by scope; those of the pooled scopes are the ones that were pooled."""
    found: list[list[dict[str, Any]]] = []
    for outcome in outcomes:
        if outcome.scope.startswith(POOLED):
            same = [rows for rows, one in zip(found, outcomes, strict=False) if one.reverse == outcome.reverse]
            found.append([row for rows in same[1:] for row in rows])
        else:
            found.append(list(_rows(answers, outcome, sharpness)))
    return found


def _per_query(found: list[list[dict[str, Any]]], as_json: bool) -> str:
    records = {(row["scope"], row["query"]): row for rows in found for row in rows}.values()
    if as_json:
        return "".join(f"{json_line(record)}\n" for record in records)
    text = io.StringIO()
    names = dict.fromkeys(name for record in records for name in record)
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _rows(answers: Answers, outcome: _Outcome, sharpness: float) -> Iterator[dict[str, Any]]:
    table, headings = answers.data.panoramas, None
    if outcome.headings is not None:
        found, (sd, top_sd) = outcome.headings, outcome.headings.sds(sharpness)
        headings = {"heading_error_deg": found.errors, "heading_sd_deg": sd}
        headings |= {"top_heading_error_deg": found.top, "top_heading_sd_deg": top_sd}
    sources = dict(zip(answers.tile_row.tolist(), answers.data.tiles.source, strict=True))
    rows, tiles = outcome.ends(answers)
    names = answers.store.columns.id.take(tiles)
    for place, (row, tile) in enumerate(zip(rows.tolist(), tiles.tolist(), strict=True)):
        error = float(outcome.errors_m[place])
        ids = table.id[row], names[place]
        query, top = reversed(ids) if outcome.reverse else ids
        record = {
            "scope": outcome.scope,
            "query": query,
            "source": sources[tile] if outcome.reverse else table.source[row],
            "gallery": int(outcome.gallery[place]),
            "rank": int(outcome.ranks.exact[place]),
            "rank_masked": int(outcome.ranks.masked[place]),
            "positive_score": round(float(outcome.ranks.best_score[place]), 6),
            "top": top,
            "top_score": round(float(outcome.score[place]), 6),
            "covers": bool(outcome.covers[place]),
            "error_m": None if math.isnan(error) else round(error, 2),
        }
        if outcome.offset_errors_m is not None:
            error = float(outcome.offset_errors_m[place])
            record["error_offset_m"] = None if math.isnan(error) else round(error, 2)
        for name, values in (headings or {}).items():
            degrees = float(values[place])
            record[name] = None if math.isnan(degrees) else round(degrees, 2)
        yield record
