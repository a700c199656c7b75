"""Tables as Markdown and LaTeX."""

from __future__ import annotations

from cvgeo.evaluation.tables import latex, markdown

HEAD, ROWS = ["variant", "r@1%"], [["max_pool | a", "1.50"], ["b & c", "-"]]


def test_markdown_lines_up_and_escapes():
    lines = markdown("Title", HEAD, ROWS, ["A note."]).splitlines()
    assert lines[0] == "### Title" and lines[-1] == "A note."
    table = lines[2:6]
    assert len({len(line) for line in table}) == 1
    assert table[1].startswith("| :-") and table[1].endswith("-: |")
    assert r"max_pool \| a" in table[2]


def test_latex_escapes():
    text = latex("50 % of_it", HEAD, ROWS, ["A note."])
    assert r"\caption{50 \% of\_it}" in text and r"max\_pool | a & 1.50 \\" in text and r"b \& c & - \\" in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1
