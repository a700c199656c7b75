"""Probabilities of a data set's panoramas: fitted, judged, and drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from cvgeo.data.schema import Dataset
from cvgeo.errors import InputError, UsageError
from cvgeo.evaluation.plots import plot_reliability
from cvgeo.models import Embedder
from cvgeo.pipelines.answers import FULL_TURN, Answers, EvaluateOptions, Queries, embed_queries
from cvgeo.pipelines.calibrate import FIELDS, Calibration, Evidence, Judged, covering, enough, gather, judge
from cvgeo.pipelines.embed import EmbedOptions
from cvgeo.report import Reporter
from cvgeo.retrieval.exact import Part
from cvgeo.retrieval.probability import NONE_SHARE, SHARPNESSES, fit
from cvgeo.training.calibration import CalibrationEntry, write_calibration


def _evidence(answers: Answers, queries: Queries, sharpnesses: np.ndarray) -> Evidence | None:
    """Scores of the queries that some tile shows, with and without those tiles; None where there are none."""
    table, columns = answers.data.panoramas, answers.store.columns
    gallery = np.unique(answers.tile_row[answers.tile_row >= 0])
    place = np.full(len(columns), -1)
    place[gallery] = np.arange(len(gallery))
    pairs = answers.data.pairs
    number = np.full(len(table), -1)
    number[queries.rows] = np.arange(len(queries.rows))
    query, row = number[pairs.panorama], place[answers.tile_row[pairs.tile]]
    paired = (query >= 0) & (row >= 0) & (answers.tile_row[pairs.tile] >= 0)
    seen = covering(table.lat[queries.rows], table.lon[queries.rows], columns.take(gallery))
    # A pair may show the place as well: each tile of a panorama counts once.
    query, row = np.unique(np.concatenate([(query[paired], row[paired]), seen], axis=1), axis=1)
    some = np.unique(query)
    if not len(some) or len(gallery) <= np.bincount(query).max():
        return None
    return gather(Part(answers.store, gallery), queries.part(some), (np.searchsorted(some, query), row), sharpnesses)


def _widths(data: Dataset, options: EvaluateOptions) -> tuple[float, tuple[float, ...]]:
    """The field of view of the queries, and those that a calibration is fitted at."""
    own = data.panoramas.hfov[~np.isnan(data.panoramas.hfov)]
    widest = float(np.median(own)) if len(own) else FULL_TURN
    if options.hfov is not None:
        return min(options.hfov, widest), (min(options.hfov, widest),)
    return widest, tuple(width for width in FIELDS if width < widest) + (widest,)


def fit_probabilities(
    answers: Answers,
    model: Embedder,
    reference: tuple[str, str],
    scratch: Path,
    options: EvaluateOptions,
    embedding: EmbedOptions,
    reporter: Reporter,
) -> None:
    """Fit probabilities at each field of view, and write them beside the checkpoint."""
    data, entries = answers.data, []
    enough(len(answers.queries.rows), data.root, reporter)
    for width in _widths(data, options)[1]:
        one = replace(options, hfov=width if width < FULL_TURN else None)
        path = scratch / f"queries-{width:g}.h5"
        queries = embed_queries(data, model, path, reference, one, embedding, reporter)
        reporter.now(f"calibrating at {width:g} degrees")
        evidence = _evidence(answers, queries, SHARPNESSES)
        if evidence is None:
            raise InputError("no tile is left to tell a place from", path=data.root, mend="take a larger data set")
        found, _ = fit(evidence.log_sums, evidence.right, evidence.without, evidence.rows)
        numbers = {name: round(getattr(found, name), 6) for name in ("sharpness", "none", "level")}
        about = data.name, options.split or "", len(evidence.log_sums), evidence.rows
        names = dict(zip(("dataset", "split", "queries", "gallery"), about, strict=True))
        entries.append(CalibrationEntry(width, not options.heading_unknown, **numbers, none_share=NONE_SHARE, **names))
    path = write_calibration(reference[0], answers.store.header.fingerprint, entries)
    widths = ", ".join(f"{entry.hfov:g}" for entry in entries)
    reporter.note(f"{path}: calibrated on {entries[0].queries} panoramas at {widths} degrees")


def judged_queries(answers: Answers, reference: str, options: EvaluateOptions, drawn: Path | None) -> Judged | None:
    """The queries' probabilities; None where the model is not calibrated for them.

    Their reliability is `drawn` (.png, .svg). Raises UsageError where there is nothing to draw.
    """
    judged = _judged(answers, reference, options)
    if drawn is not None:
        _plot(judged, answers.data, options, drawn)
    return judged


def _judged(answers: Answers, reference: str, options: EvaluateOptions) -> Judged | None:
    calibration = Calibration.of(reference, answers.store.header.fingerprint)
    found = calibration.fit_for(_widths(answers.data, options)[0], not options.heading_unknown)
    if found is None:
        return None
    evidence = _evidence(answers, answers.queries, np.array([found.sharpness]))
    gallery = np.unique(answers.tile_row[answers.tile_row >= 0])
    return None if evidence is None else judge(evidence, found, answers.store.columns.take(gallery))


def _plot(judged: Judged | None, data: Dataset, options: EvaluateOptions, path: Path) -> None:
    if judged is None:
        raise UsageError(
            "a reliability diagram needs a calibrated model", path=path, mend="calibrate with --split val --calibrate"
        )
    width, heading = _widths(data, options)[0], "unknown" if options.heading_unknown else "known"
    error = judged.record()["ece"]
    title = f"{data.name}: field of view {width:g}°, heading {heading}\nexpected calibration error {error:.3f}"
    plot_reliability(judged.diagram(), title, [path])
