"""Results of a grid of variants as records, tables and curves."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cvgeo.config.grids import Grid, Variant
from cvgeo.evaluation import tables
from cvgeo.evaluation.ablation import CURVE_LENGTH, METRICS, difference, hits, mean_share, recall_curve
from cvgeo.evaluation.plots import plot_recall

RanksBySeed = dict[int, np.ndarray]
TIERS_SAID = (
    "Tier: parity agrees with the authors' code, paper is built from the article's equations, approximation fills what "
    "the source leaves open, own is of no publication; changed: not as in its preset."
)


@dataclass(frozen=True)
class Results:
    """Ranks (Q,) of the positives by variant's label and seed, of the same queries in the same order everywhere.

    `about` are a variant's model, tier of fidelity and recipe by its label. `gallery` is how many tiles were searched;
    a variant without ranks has failed. `protocol` is what the data set says of how it was evaluated; published values
    stand beside the measured ones where it is theirs, and not at all unless `comparable`.
    """

    grid: Grid
    dataset: str
    about: dict[str, dict[str, str]]
    gallery: int
    ranks: dict[str, RanksBySeed]
    protocol: str | None = None
    comparable: bool = True

    def records(self) -> list[dict[str, Any]]:
        """A record a variant: shares with intervals, differences to the reference, published values (in percent)."""
        return [self._record(variant) for variant in self.grid.variants]

    def _record(self, variant: Variant) -> dict[str, Any]:
        own, reference = self.ranks[variant.label], self.ranks[self.grid.reference]
        record: dict[str, Any] = {"variant": variant.label, **self.about[variant.label]}
        record |= {"dataset": self.dataset, "protocol": self.protocol, "seeds": sorted(own)}
        if own:
            record |= {"queries": len(next(iter(own.values()))), "gallery": self.gallery}
            record |= self._shares(own)
            if own is not reference:
                record |= self._differences(own, reference)
        if not self._published_here():
            return record
        record |= {f"paper_{key}": value for key, value in variant.paper.get(self.dataset, {}).items()}
        apart = variant.paper_difference.get(self.dataset, {})
        return record | {f"paper_difference_{key}": value for key, value in apart.items()}

    def _published_here(self) -> bool:
        """Whether the grid's published values of this data set were measured as these."""
        wanted, given = self.grid.protocols.get(self.dataset, ""), self.protocol or ""
        return self.comparable and (not wanted or set(wanted.split(", ")) <= set(given.split(", ")))

    def _shares(self, own: RanksBySeed) -> dict[str, float]:
        counted = hits(np.stack(list(own.values())), self.gallery)
        record = {}
        for name in METRICS:
            mean, low, high = mean_share(counted[name])
            record |= {name: mean, f"{name}_low": low, f"{name}_high": high}
        return record

    def _differences(self, own: RanksBySeed, reference: RanksBySeed) -> dict[str, float]:
        common = sorted(set(own) & set(reference))
        if not common:
            return {}
        counted, other = (hits(np.stack([ranks[seed] for seed in common]), self.gallery) for ranks in (own, reference))
        record = {}
        for name in METRICS:
            found = asdict(difference(counted[name], other[name]))
            record |= {f"difference_{name}": found.pop("mean")}
            record |= {f"difference_{name}_{key}": value for key, value in found.items()}
        return record

    @cached_property
    def _published(self) -> list[str]:
        return list(dict.fromkeys(key for record in self.records() for key in record if key.startswith("paper_")))

    def texts(self) -> dict[str, str]:
        """The tables by file name: Markdown, LaTeX, CSV and JSON."""
        head = ["variant", "tier", "seeds", *METRICS, "difference r@1", "detectable"]
        head += [
            key.replace("paper_difference_", "paper, difference ").replace("paper_", "paper ")
            for key in self._published
        ]
        records = self.records()
        table = self.grid.summary, head, [self._row(record) for record in records], self._notes()
        return {
            "table.md": tables.markdown(*table),
            "table.tex": tables.latex(*table),
            "table.csv": _csv(records),
            "table.json": json.dumps(records, indent=2) + "\n",
        }

    def _row(self, record: dict[str, Any]) -> list[str]:
        row = [record["variant"], record["tier"], str(len(record["seeds"]))]
        row += [_span(record, name, "{:.2f} ({:.1f} to {:.1f})") for name in METRICS]
        row += [_span(record, "difference_r@1", "{:+.2f} ({:+.1f} to {:+.1f})")]
        detectable = record.get("difference_r@1_detectable")
        row += ["-" if detectable is None else f"{100 * detectable:.2f}"]
        return [*row, *("-" if record.get(key) is None else f"{record[key]:g}" for key in self._published)]

    def _notes(self) -> list[str]:
        queries = max(len(ranks) for seeds in self.ranks.values() for ranks in seeds.values())
        protocol = f" ({self.protocol})" if self.protocol else ""
        notes = [
            f"Data set {self.dataset}{protocol}: {queries} queries, {self.gallery} tiles; {self._recipes()}. In "
            "percent; in brackets 95 % intervals, over seeds and queries.",
            TIERS_SAID,
            f"Difference: r@1 minus that of {self.grid.reference}, paired by seed and query. Detectable: the smallest "
            "difference that these queries and seeds would show with 80 % power.",
        ]
        return [*notes, "Paper: the published value on this data set."] if self._published else notes

    def _recipes(self) -> str:
        by_recipe: dict[str, list[str]] = {}
        for label, about in self.about.items():
            by_recipe.setdefault(about["recipe"], []).append(label)
        if len(by_recipe) == 1:
            return f"recipe {next(iter(by_recipe))}"
        return "recipes " + ", ".join(f"{recipe} ({', '.join(labels)})" for recipe, labels in by_recipe.items())

    def plot(self, paths: list[Path]) -> None:
        """Recall@K curves of all variants, one file a format. Raises CvgeoError where matplotlib is missing."""
        curves = {
            label: np.stack([recall_curve(one, min(CURVE_LENGTH, self.gallery)) for one in seeds.values()])
            for label, seeds in self.ranks.items()
            if seeds
        }
        plot_recall(curves, f"{self.grid.summary}\ndata set {self.dataset}", paths)


def _span(record: dict[str, Any], name: str, form: str) -> str:
    if record.get(name) is None:
        return "-"
    return form.format(*(100 * record[key] for key in (name, f"{name}_low", f"{name}_high")))


def _csv(records: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for record in records for key in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**record, "seeds": " ".join(map(str, record["seeds"]))} for record in records)
    return text.getvalue()
