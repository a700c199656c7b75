"""Plots of results, by matplotlib (extra `plots`), without a screen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cvgeo.errors import CvgeoError
from cvgeo.evaluation.calibration import Reliability
from cvgeo.evaluation.intervals import wilson
from cvgeo.paths import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours are told apart by people of any colour vision; the dashes tell them apart in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
DASHES = ("-", "--", "-.", ":")


def plot_recall(curves: Mapping[str, np.ndarray], title: str, paths: list[Path]) -> None:
    """Recall@K curves in percent, one a variant, as the paper's Fig. 7 to 11.

    Args:
        curves: by label, (S, K) recalls in 0..1 of S seeds at 1..K; the line is their mean, the band reaches from the
            lowest to the highest.
        title: above the plot.
        paths: one file a format (.png, .svg).

    Raises CvgeoError that names the extra where matplotlib is not installed.
    """
    figure = _figure()
    axes = figure.add_subplot()
    for number, (label, curve) in enumerate(curves.items()):
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]
        at = np.arange(1, curve.shape[1] + 1)
        axes.plot(at, 100 * curve.mean(axis=0), dash, color=colour, label=_shown(label), linewidth=1.6)
        if len(curve) > 1:
            axes.fill_between(at, 100 * curve.min(axis=0), 100 * curve.max(axis=0), color=colour, alpha=0.15, lw=0)
    axes.set(
        xlabel="K", ylabel="recall@K in %", title=_shown(title), xlim=(1, max(2, curve.shape[1])), ylim=(None, 101)
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    _save(figure, paths)


def plot_reliability(found: Reliability, title: str, paths: list[Path]) -> None:
    """A reliability diagram: what came true against what was said, and below it how often it was said.

    Raises CvgeoError that names the extra where matplotlib is not installed.
    """
    figure = _figure((5.2, 5.6))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    edges = np.linspace(0, 100, len(found.weight) + 1)
    width = edges[1]
    filled = found.weight > 0
    low, high = _share_intervals(found)
    above.plot([0, 100], [0, 100], "--", color="#808080", linewidth=1, label="as it should be")
    above.bar(edges[:-1], 100 * np.nan_to_num(found.share), width, align="edge", color=COLOURS[5], alpha=0.45,
              edgecolor="white")  # fmt: skip
    at, share = 100 * found.probability[filled], 100 * found.share[filled]
    # A share of 0 or 1 may lie beyond its own interval by a rounding.
    spread = np.maximum(np.stack([share - 100 * low[filled], 100 * high[filled] - share]), 0)
    above.errorbar(at, share, spread, fmt="o", color=COLOURS[0], capsize=2.5, markersize=4.5, label="came true, 95 %")
    above.set(ylabel="came true in %", title=_shown(title), xlim=(0, 100), ylim=(0, 101))
    above.legend(loc="upper left", frameon=False)
    below.bar(edges[:-1], 100 * found.weight / found.weight.sum(), width, align="edge", color=COLOURS[0],
              edgecolor="white")  # fmt: skip
    below.set(xlabel="probability of the top place in %", ylabel="pictures in %")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    _save(figure, paths)


def _share_intervals(found: Reliability) -> tuple[np.ndarray, np.ndarray]:
    shares = np.nan_to_num(found.share)
    ends = [wilson(share * weight, weight) for share, weight in zip(shares, found.weight, strict=True)]
    return np.array([low for low, _ in ends]), np.array([high for _, high in ends])


def _shown(text: str) -> str:
    """A text as it is: no formulas, and a question mark for what a name may hold and a plot cannot show."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text).replace("$", r"\$")


def _figure(inches: tuple[float, float] = (6.4, 4.4)) -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CvgeoError("plots need matplotlib", mend="pip install 'cvgeo[plots]'") from error
    figure = Figure(figsize=inches, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, paths: list[Path]) -> None:
    from matplotlib import rc_context

    for path in paths:
        # Without a date and with ids that are not random the same curves give the same bytes.
        with rc_context({"svg.hashsalt": "cvgeo"}), atomic_file(path) as temporary:
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(temporary, format=path.suffix[1:], metadata=metadata)
