"""`cvgeo models` through the real program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cvgeo.cli.models import _lines, _rows
from cvgeo.errors import UsageError
from cvgeo.pipelines.models import describe_preset, list_parts, list_presets
from cvgeo.report import Reporter

LATE = """
raise ImportError("needs a compiler")
"""


def records(done) -> list[dict]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_models_by_pattern_and_by_name(program) -> None:
    found = records(program("models", "mc_gra*"))
    assert [one["name"] for one in found] == ["mc_gra", "mc_gra_ordinary", "mc_gra_plain", "mc_gra_small"]
    paper, small = found[0], found[3]
    assert (paper["parameters"], paper["descriptor_size"], paper["tier"]) == (21_226_550, 4096, "paper")
    assert paper["published_cvusa_r@1"] == 92.08 and paper["multiply_adds"] > 10**10
    (row,) = _rows([small])
    assert row["parts"] == "resnet18 + mc_gra + mixvpr" and row["aerial"] == "64x320 polar" and row["tier"] == "own"
    assert describe_preset("mc_gra_small") == small
    lines = _lines(paper)
    assert lines["CVUSA"] == "r@1 92.08, r@5 97.7, r@10 98.66 (the article)" and lines["parameters"] == "21,226,550"
    assert "heading" not in lines and _lines(describe_preset("dsm"))["heading"] == "64 azimuth columns"


def test_parts_of_every_kind() -> None:
    found = list(list_parts("*"))
    assert {one["kind"] for one in found} == {"input", "backbone", "attention", "aggregator", "loss"}
    by_name = {one["name"]: one for one in found}
    assert by_name["mixvpr"]["options"] == "out_channels=512, mix_depth=1, mlp_ratio=1, out_rows=4"
    assert "layers=3" in by_name["resnet50"]["options"] and "depth" not in by_name["resnet50"]["options"]
    assert all(one["summary"] for one in found)
    assert {one["kind"] for one in list_parts("attention")} == {"attention"}


def test_what_is_not_there(program) -> None:
    done = program("models", "saf")
    assert done.returncode == 2 and done.stdout == b""
    assert done.stderr == b"cvgeo: unknown model 'saf'; did you mean safa?\n"
    with pytest.raises(UsageError, match=r"no model matches 'x\*'; known: any_view, cai, cbam"):
        list(list_presets("x*", Reporter()))
    with pytest.raises(UsageError, match=r"no part matches 'netvald'; did you mean netvlad?"):
        list(list_parts("netvald"))


def test_a_broken_package_is_one_warning_line(program, tmp_path: Path) -> None:
    info = tmp_path / "site" / "late-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: late\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cvgeo.parts]\nall = late_parts\n")
    (tmp_path / "site" / "late_parts.py").write_text(LATE)
    done = program("models", "--parts", "input", env={"PYTHONPATH": str(tmp_path / "site")})
    assert records(done)[0]["name"] == "orientation"
    warning = b"cvgeo: warning: the parts of the package late cannot be used: ImportError: needs a compiler\n"
    assert done.stderr == warning
    assert program("--version", env={"PYTHONPATH": str(tmp_path / "site")}).stderr == b""
