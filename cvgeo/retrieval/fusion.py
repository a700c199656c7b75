"""Several pictures of one place as one query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cvgeo.retrieval.heading import Scorer

AT_ONCE = 8


class FusedScorer(Scorer):
    """One query of several pictures: the mean of their scores, each at its own best turn.

    A score is a log-likelihood but for a factor, and of pictures taken at one place these add up; the mean is their sum
    on the scale of one picture's scores. `scorers` hold the pictures, those of a kind together.
    """

    def __init__(self, scorers: Sequence[Scorer]):
        self.scorers = scorers
        self.pictures = sum(len(scorer) for scorer in scorers)
        self.scores_a_pair = sum(len(scorer) * scorer.scores_a_pair for scorer in scorers)

    def __len__(self) -> int:
        return 1

    @property
    def dimension(self) -> int:
        """D."""
        return self.scorers[0].dimension

    def prepare(self, block: np.ndarray) -> Any:
        """A block in the form that each of the scorers takes."""
        return [scorer.prepare(block) for scorer in self.scorers]

    def scores(self, some: slice, prepared: Any) -> np.ndarray:
        """Scores (1, n)."""
        total: np.ndarray | float = 0.0
        for scorer, block in zip(self.scorers, prepared, strict=True):
            for start in range(0, len(scorer), AT_ONCE):
                part = scorer.scores(slice(start, min(start + AT_ONCE, len(scorer))), block)
                total = total + part.sum(axis=0, dtype=np.float64)
        return np.asarray(total / self.pictures, dtype=np.float32)[None]
