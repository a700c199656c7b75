"""From the scores of pictures whose place is known to probabilities, and how well these mean what they say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cvgeo.errors import InputError
from cvgeo.evaluation.calibration import Reliability, area_under_roc, expected_error, reliability
from cvgeo.geometry.geodesy import offset_metres
from cvgeo.report import Reporter
from cvgeo.retrieval.exact import Gallery, search
from cvgeo.retrieval.heading import Scorer
from cvgeo.retrieval.probability import NONE_SHARE, Fit, LogSums, between, grouped_log_sums, place_probabilities
from cvgeo.retrieval.rows import StoreRows
from cvgeo.training.calibration import CalibrationEntry, read_calibration

FIELDS = (360.0, 180.0, 90.0, 70.0)
NEIGHBOURS = 64  # of the best tiles, whose shares are summed over a place
FEWEST = 30
METRES_A_DEGREE = 110_000.0
BEYOND = 5.0  # degrees by which a field of view may lie outside those that were tried, without a word
TOO_FAR = 1.5  # times a field of view that was tried: the nearest fit says nothing of it


@dataclass
class Evidence:
    """Scores of Q pictures over N rows, with the rows that show their place (`within`) and without.

    `log_sums`, `right` and `without` are L (Q, B) as `cvgeo.retrieval.probability.fit` takes them; `best` and `scores`
    (2, Q, K) the best rows with and without; `shows` (Q,) whether the best row shows the place.
    """

    rows: int
    log_sums: np.ndarray
    right: np.ndarray
    without: np.ndarray
    best: np.ndarray
    scores: np.ndarray
    shows: np.ndarray


def covering(lat: np.ndarray, lon: np.ndarray, columns: StoreRows) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of positions (Q,) and of the rows (N,) that show them."""
    query, row = [], []
    half = np.where(np.isnan(columns.ground_m), 0.0, columns.ground_m / 2)
    for number in np.flatnonzero(np.isfinite(lat) & np.isfinite(lon)):
        near = np.flatnonzero(np.abs(columns.lat - lat[number]) * METRES_A_DEGREE <= half + 1.0)
        if len(near):
            here = np.full(len(near), lat[number]), np.full(len(near), lon[number])
            north, east = offset_metres(*here, columns.lat[near], columns.lon[near])
            near = near[(np.abs(north) <= half[near]) & (np.abs(east) <= half[near])]
        query.append(np.full(len(near), number))
        row.append(near)
    return np.concatenate([*query, np.zeros(0, int)]), np.concatenate([*row, np.zeros(0, int)])


def gather(gallery: Gallery, scorer: Scorer, shown: tuple[np.ndarray, np.ndarray], sharpnesses: np.ndarray) -> Evidence:
    """Search with and without the rows that show each picture's place.

    Args:
        gallery: N rows, more than show any one place.
        scorer: of Q pictures.
        shown: query numbers (P,) and row numbers (P,): every row that shows the picture's place, at least one each.
        sharpnesses: (B,).
    """
    pairs = np.unique(np.stack(shown, axis=1), axis=0)
    query, row = pairs[:, 0], pairs[:, 1]
    sums = [LogSums(np.tile(sharpnesses, (len(scorer), 1))) for _ in range(2)]
    found = [
        search(gallery, scorer, NEIGHBOURS, one, hidden) for one, hidden in zip(sums, (None, (query, row)), strict=True)
    ]
    right = grouped_log_sums(query, scorer.pair_scores(query, gallery, row), len(scorer), sharpnesses)
    best, scores = (np.stack(parts) for parts in zip(*found, strict=True))
    within, without = (one.values() for one in sums)
    pairs_at = query * len(gallery) + row
    shows = np.isin(np.arange(len(scorer)) * len(gallery) + best[0, :, 0], pairs_at)
    # A pair's own score may differ from the search's in the last bits.
    return Evidence(len(gallery), np.maximum(within, right), right, without, best, scores, shows)


@dataclass
class Judged:
    """Probabilities of Q pictures with (row 0) and without (row 1) the tiles that show their place.

    `top` (2, Q) of the best tile's place, `none` (2, Q) of no tile, `shows` (2, Q) whether the best tile is right.
    """

    top: np.ndarray
    none: np.ndarray
    shows: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """Weights (2, Q): pictures from elsewhere count as much as the calibration takes them to be frequent."""
        return np.broadcast_to(np.array([[1 - NONE_SHARE], [NONE_SHARE]]), self.top.shape)

    def diagram(self) -> Reliability:
        """The reliability of the top place's probability."""
        return reliability(self.top.ravel(), self.shows.ravel(), self.weights.ravel())

    def record(self) -> dict[str, float]:
        """Expected calibration error of the top place, over all and over pictures from within alone; areas under ROC:
        of queries without their tiles by `none`, and of right top tiles among those of all others by `top`.
        """
        together = expected_error(self.top.ravel(), self.shows.ravel(), self.weights.ravel())
        within = expected_error(self.top[0], self.shows[0])
        record = dict(zip(("ece", "ece_low", "ece_high"), together, strict=True))
        record |= dict(zip(("ece_within", "ece_within_low", "ece_within_high"), within, strict=True))
        record["none_auc"] = area_under_roc(self.none[1], self.none[0])
        record["top_auc"] = area_under_roc(self.top[0][self.shows[0]], self.top[0][~self.shows[0]])
        record["mean_probability"] = float(self.top[0].mean())
        return record


def judge(evidence: Evidence, calibrated: Fit, columns: StoreRows) -> Judged:
    """Probabilities by a fit; the evidence is that of its sharpness alone, `columns` (N,) are the gallery's."""
    sums = evidence.log_sums[:, 0], evidence.without[:, 0]
    none = np.stack([calibrated.none_probability(one, evidence.rows) for one in sums])
    top = np.empty_like(none)
    for case, log_sums in enumerate(sums):
        shares = calibrated.shares(evidence.scores[case], log_sums, evidence.rows)
        for number, (rows, share) in enumerate(zip(evidence.best[case], shares, strict=True)):
            # Of a small gallery with hidden rows fewer are found than were asked for.
            some = np.isfinite(evidence.scores[case, number])
            top[case, number] = top_place(share[some], rows[some], columns)
    return Judged(top, none, np.stack([evidence.shows, np.zeros_like(evidence.shows)]))


def top_place(shares: np.ndarray, rows: np.ndarray, columns: StoreRows) -> float:
    """The probability that the first of these rows (K,) shows the place."""
    return float(place_probabilities(shares, columns.lat[rows], columns.lon[rows], columns.ground_m[rows])[0])


class Calibration:
    """The fits of a model, for pictures of known or unknown heading and of any field of view."""

    def __init__(self, entries: list[CalibrationEntry]):
        self.entries = entries

    @classmethod
    def of(cls, reference: str, fingerprint: str) -> Calibration:
        """That beside a checkpoint, empty where there is none. Raises the errors of `read_calibration`."""
        return cls(read_calibration(reference, fingerprint))

    def fit_for(self, hfov: float, heading_known: bool) -> Fit | None:
        """The fit for a picture; None where none was made for what is known of its heading, near its field of view."""
        some = [one for one in self.entries if one.heading_known == heading_known]
        fits = [Fit(one.sharpness, one.none, one.level) for one in some]
        tried = [one.hfov for one in some]
        # A fit of whole circles, used at 90 degrees, was off by 0.2 (cvgeo-probability(7)).
        if not some or not min(tried) / TOO_FAR <= hfov <= max(tried) * TOO_FAR:
            return None
        return between(fits, tried, hfov)

    def lack(self, hfov: float, heading_known: bool) -> str | None:
        """What is to be said of probabilities for such pictures: that there are none, or that they are far-fetched."""
        some = [one.hfov for one in self.entries if one.heading_known == heading_known]
        words = "" if heading_known else " --heading unknown"
        if not some:
            kind = "known" if heading_known else "unknown"
            fault = f"no calibration for pictures of {kind} heading" if self.entries else "the model has no calibration"
            return f"{fault}: no probabilities; make one with cvgeo evaluate --split val --calibrate{words}"
        if not min(some) - BEYOND <= hfov <= max(some) + BEYOND:
            text = f"calibrated for fields of view of {min(some):g} to {max(some):g} degrees, not {hfov:g}"
            return text if self.fit_for(hfov, heading_known) else f"{text}: no probabilities"
        return None


def enough(count: int, path: object, reporter: Reporter) -> None:
    """Raise InputError for too few pictures to calibrate with."""
    if count < FEWEST:
        raise InputError(
            f"{count} pictures are too few to calibrate with", path=path, mend=f"take a split of at least {FEWEST}"
        )
    if count < 10 * FEWEST:
        reporter.warn(f"calibrated on {count} pictures only: probabilities may be off by some percent")
