"""`cvgeo models`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import typer

from cvgeo.cli import options
from cvgeo.cli.console import ConsoleReporter, chosen_format, print_listing, write_records

EXAMPLES = [
    ("cvgeo models", "every model with its size, cost and tier of fidelity"),
    ("cvgeo models safa", "one model in full: source, published results, what is read how"),
    ("cvgeo models 'mc_gra*' --format csv", "some of them, as a table for a spreadsheet"),
    ("cvgeo models --parts attention", "what can stand in model.attention, with its options"),
    ("cvgeo models --json | jq -r 'select(.tier == \"parity\").name'", "names for a script"),
]

Pattern = Annotated[
    str, typer.Argument(metavar="[PATTERN]", help="A name, or a pattern such as 'mc_gra*'; of parts also a kind.")
]
Parts = Annotated[
    bool, typer.Option("--parts", help="List inputs, backbones, attentions, aggregators and losses instead.")
]
# What narrow terminals have no room for.
SPARE = ["ground", "aerial", "G multiply-adds", "descriptor", "CVUSA r@1", "tier"]


def models(
    pattern: Pattern = "*",
    parts: Parts = False,
    format: options.Format = None,
    json: options.Json = False,
    *,
    reporter: ConsoleReporter,
) -> None:
    """List the models and what they are made of.

    Cost is in multiply-adds of both views of one pair. The tier says how faithful a model is: `parity` agrees with its
    authors' implementation by test, `paper` is built from the article's equations, `approximation` had too little to go
    by (its page says what is open), `own` is this program's. Parts of one's own come from any installed package with
    an entry point in the group `cvgeo.parts`.
    """
    from cvgeo.pipelines.models import describe_preset, is_pattern, list_parts, list_presets

    chosen = chosen_format(format, json)
    as_table = chosen is options.OutputFormat.TABLE
    if parts:
        write_records(list_parts(pattern), chosen)
    elif is_pattern(pattern):
        records = list_presets(pattern, reporter)
        write_records(_rows(records) if as_table else records, chosen, spare=SPARE)
    elif as_table and format is None:
        print_listing(_lines(describe_preset(pattern)))
    else:
        record = describe_preset(pattern)
        write_records(_rows([record]) if as_table else [record], chosen)


def _size(size: list[int]) -> str:
    return "x".join(map(str, size))


def _rows(records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Records as a person reads them in a table."""
    for one in records:
        parts = " + ".join(one[part] for part in ("input", "backbone", "attention", "aggregator"))
        yield {
            "name": one["name"],
            "parts": parts.replace("rgb + ", "").replace(" + none", ""),
            "M parameters": round(one["parameters"] / 1e6, 1),
            "descriptor": one["descriptor_size"],
            "G multiply-adds": round(one["multiply_adds"] / 1e9, 1),
            "ground": _size(one["ground_size"]),
            "aerial": _size(one["aerial_size"]) + (" polar" if one["polar"] else ""),
            "tier": one["tier"],
            "CVUSA r@1": one["published_cvusa_r@1"],
        }


def _lines(one: dict[str, Any]) -> dict[str, Any]:
    """One model as lines of name and value."""
    kept = ("name", "summary", "source", "tier", "open", "input", "backbone", "attention", "aggregator")
    lines = {key: one[key] for key in kept}
    lines |= {
        "weights": "shared by both views" if one["share"] else "each view its own",
        "parameters": f"{one['parameters']:,}",
        "descriptor": f"{one['descriptor_size']} numbers",
        "heading": f"{one['azimuth_columns']} azimuth columns" if one["azimuth_columns"] else None,
        "multiply-adds": f"{one['multiply_adds'] / 1e9:.2f} G a pair",
        "ground": f"{_size(one['ground_size'])} pixels",
        "aerial": f"{_size(one['aerial_size'])} pixels, {'polar' if one['polar'] else 'as it is, north up'}",
        "recipe": one["recipe"],
    }
    for result in one["published"] or []:
        shown = ", ".join(f"{key} {value}" for key, value in result.items() if key not in ("data", "from"))
        lines[f"{result['data']}"] = f"{shown} ({result['from']})"
    return {name: value for name, value in lines.items() if value is not None}
