"""The table of benchmarks: which there are, what each figure is measured against, and what it has to reach.

A benchmark is a module of this folder with `main(arguments) -> record`, which prints the record as one JSON line; its
rows name keys of that record.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of the table: `key` of the record (with dots into tables in it) has to reach `bound`.

    `at_least` says from which side; `absolute`, that the sign does not count.
    """

    stage: str
    against: str
    key: str
    bound: float | None = None
    at_least: bool = True
    unit: str = "times"
    absolute: bool = False

    @property
    def to_reach(self) -> str:
        """The bound as it is read."""
        if self.bound is None:
            return "-"
        return f"{'at least' if self.at_least else 'at most'} {self.bound:g} {self.unit}".strip()

    def value(self, record: dict[str, Any] | None) -> float | None:
        """What was measured; None where it was not."""
        value: Any = record
        for part in self.key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            return None
        return abs(float(value)) if self.absolute else float(value)

    def met(self, record: dict[str, Any] | None) -> bool | None:
        """Whether the bound is reached; None where nothing was measured or nothing is to be reached."""
        value = self.value(record)
        if value is None or self.bound is None:
            return None
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True)
class Benchmark:
    """A module and the words it is started with; `device` is what it needs."""

    name: str
    module: str
    rows: tuple[Row, ...]
    words: tuple[str, ...] = ()
    device: str = "cpu"
    quick: tuple[str, ...] = field(default=("--quick",))


_EMBED = (
    Row("embed, {device}", "the slower of bare forward and bare decoding, pictures a second", "ratio", 0.9),
    Row("embed again, nothing changed, {device}", "the first run's seconds", "second_run_share", 0.03, False),
)


def _on(device: str, rows: tuple[Row, ...]) -> tuple[Row, ...]:
    return tuple(
        Row(row.stage.format(device=device), row.against, row.key, row.bound, row.at_least, row.unit) for row in rows
    )


_TRAINING_CPU = (
    Row("training step, CPU, float32", "a plain eager float32 loop, pairs a second", "ratio.float32", 1.15),
    Row("training step, CPU, float32, compiled", "the same loop", "ratio.float32_compiled", 1.3),
    Row("training step, CPU, bfloat16", "the same loop, in float32", "ratio.bfloat16", 1.15),
    Row("training step, CPU, bfloat16, compiled", "the same loop, in float32", "ratio.bfloat16_compiled", 1.3),
)
_TRAINING_GPU = (
    Row("training step, GPU, bfloat16, compiled", "a plain eager float32 loop", "ratio.bfloat16_compiled", 4),
    Row(
        "its loss after 500 steps",
        "that of the plain loop",
        "loss_difference.bfloat16_compiled",
        0.01,
        at_least=False,
        unit="apart",
        absolute=True,
    ),
    Row("share of the time that the GPU is busy", "all of it", "busy.bfloat16_compiled", 0.9, unit=""),
)
_SEARCH = (
    Row("exact search, 1,000,000 x 512, one query", "reading the file's bytes once", "one_over_read", 4, False),
    Row("exact search, 1,000 queries", "the bare float32 products", "many_rate", 0.7),
    Row("its peak memory", "the imports", "search_peak_mib", 512, False, "MiB above"),
    Row("ranks of 52,000 queries among 90,000 tiles", "the bare float32 products", "ranking_rate", 0.8),
    Row("the same", "VIGOR's released evaluation, extrapolated from a slice", "ranking_times_faster", 2.5),
    Row("the same", "it in single precision", "ranking_times_faster_than_in_single_precision"),
    Row("their peak memory", "the imports", "ranking_peak_mib", 2048, False, "MiB above"),
)
_APPROXIMATE = (
    Row("approximate search, 10,000,000 x 256", "batched exact search", "times_faster", 50),
    Row("its recall@10", "exact search", "recall_at_10", 0.95, unit=""),
    Row("its index", "-", "index_mib", 1536, False, "MiB"),
)

BENCHMARKS: tuple[Benchmark, ...] = (
    Benchmark(
        "polar",
        "polar",
        (
            Row(
                "polar transform, one 750x750 picture to 112x616, one thread",
                "bilinear sampling in numpy, from SAFA's formula",
                "transform_ratio",
                25,
            ),
            Row(
                "its largest difference, of 255",
                "the same formula in double precision",
                "largest_difference",
                1,
                False,
                "grey level",
            ),
            Row("polar FOLDER", "decoding plus encoding the same pictures on the same cores", "folder_ratio", 0.9),
        ),
    ),
    Benchmark("embed", "embed", _on("CPU", _EMBED), ("--device", "cpu")),
    Benchmark("embed-cuda", "embed", _on("GPU", _EMBED), ("--device", "cuda"), device="cuda"),
    Benchmark("training", "training", _TRAINING_CPU, ("--compile",)),
    Benchmark("training-cuda", "training", _TRAINING_GPU, ("--device", "cuda", "--compile"), device="cuda"),
    Benchmark("search", "search", _SEARCH),
    Benchmark("approximate", "approximate", _APPROXIMATE),
    Benchmark(
        "cutting",
        "cutting",
        (
            Row(
                "build-dataset tiles",
                "reading the same windows and encoding them, nothing written, same cores",
                "ratio",
            ),
        ),
    ),
    Benchmark(
        "loading",
        "loading",
        (Row("an epoch from a pack, 750x750 and 1232x224 JPEGs", "decoding the JPEGs", "ratio_warm", 10),),
    ),
    Benchmark("start", "start", (Row("cvgeo --help", "an empty Typer program's --help", "ratio", 1.5, False),)),
    Benchmark(
        "growth",
        "growth",
        (
            Row("time at 1x, 4x, 16x the work, the steepest stage", "linear: 1", "largest_slope", 1.1, False, "slope"),
            Row("peak memory at 16x, the stage that grows most", "the same stage at 1x", "largest_memory", 1.25, False),
        ),
    ),
)
