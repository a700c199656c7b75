"""Tables that fit: numbers whole at every width, what gives way in order."""

from __future__ import annotations

import re

import pytest
from rich.cells import cell_len

from cvgeo.cli.console import _place_cell
from cvgeo.cli.search import COLUMNS, SPARE
from cvgeo.cli.tables import Column, columns_of, table_lines


def hit(query: str, rank: int, tile: str = "tile_45.6327546_-3.0088078", **more: float | None) -> dict:
    record = {"query": query, "rank": rank, "tile": tile, "score": 0.4485, "lat": -45.604851, "lon": -103.001168}
    return record | {"heading": 269.41, "heading_sd": 13.2, "probability": 0.9565, "error_m": 1102.8} | more


HITS = [hit("pano.jpg", 1), hit("pano.jpg", 2), hit("a folder/名前 Straße.jpg", 1, tile="00012")]


def text_of(name, value) -> str:
    return "-" if value is None else str(value)


def lines(records, room, grouped="query", spare=SPARE):
    return table_lines(columns_of(records, COLUMNS, text_of), room, grouped, spare)


@pytest.mark.parametrize("room", [39, 50, 59, 79, 99, 119, 200])
def test_numbers_stay_whole_and_lines_short(room):
    shown = lines(HITS, room)
    assert max(map(cell_len, shown)) <= room
    words = " ".join(shown).split()
    assert words.count("-45.604851") == 3 and words.count("-103.001168") == 3
    whole = {"1", "2", "-45.604851", "-103.001168", "269.41", "13.2", "0.9565", "1102.8", "0.4485", "00012"}
    numbers = {word for word in words if re.fullmatch(r"-?[\d.]+", word)}
    assert all(number in whole or number in "tile_45.6327546_-3.0088078" for number in numbers)


def test_at_80_columns_a_search_with_all_known_shows_every_column():
    nearer = {"lat": 45.604851, "lon": -3.001168, "tile": "00012"}
    shown = lines([record | nearer for record in HITS], 79)
    header = " ".join(" ".join(shown[: shown.index(next(line for line in shown if "─" in line))]).split())
    assert all(word in header for word in ("rank", "tile", "score", "lat", "lon", "heading", "sd", "error"))
    assert shown.index("pano.jpg") < shown.index("a folder/名前 Straße.jpg")
    assert not any("no room" in line for line in shown)


def test_at_40_columns_the_place_stays_and_what_leaves_is_told():
    shown = lines(HITS, 39)
    assert shown[0].split() == ["rank", "lat", "lon", "heading"] and shown[-1].endswith("--json has all)")
    assert " ".join(shown).count("heading_sd") == 1


def test_columns_in_which_nothing_is_known_leave_first():
    empty = [hit("p", 1, heading_sd=None, probability=None, error_m=None)]
    assert "probability" in " ".join(lines(empty, 200)) and not any("probab" in line for line in lines(empty, 60))


def test_a_table_that_cannot_fit_is_none():
    assert lines(HITS, 20) is None
    assert table_lines([Column("a" * 3, ["12345678"], True)], 5) is None


def test_texts_fold_after_separators():
    columns = [Column("path", ["runs/a long name/best.safetensors"], False), Column("n", ["1"], True)]
    assert table_lines(columns, 20)[2:] == ["runs/a long name/  1", "best.safetensors"]


def test_wide_letters_count_twice():
    columns = [Column("name", ["名前名前名前"], False), Column("n", ["7"], True)]
    assert {cell_len(line) for line in table_lines(columns, None)[1:]} == {15}


def test_metres_have_no_exponent():
    assert _place_cell("error_m", 8_828_310.82) == "8828311" and _place_cell("error_m", 1102.8) == "1102.8"
