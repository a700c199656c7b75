"""Differences of two models against a literal bootstrap, and files that do not fit."""

from __future__ import annotations

import json
import random
import statistics

import pytest

from cvgeo.errors import InputError, MismatchError
from cvgeo.evaluation.paired import OtherAnswers


def rows(ranks, scope="overall", gallery=9):
    return [
        {"scope": scope, "query": f"q{number}", "gallery": gallery, "rank": rank} for number, rank in enumerate(ranks)
    ]


def write(path, found):
    if path.suffix == ".csv":
        lines = [
            "scope,top,query,gallery,rank",
            *(f"{r['scope']},t,{r['query']},{r['gallery']},{r['rank']}" for r in found),
        ]
        path.write_text("\n".join(lines) + "\n")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


def literal_interval(values, seed):
    generator = random.Random(seed)
    means = sorted(statistics.mean(generator.choices(values, k=len(values))) for _ in range(4000))
    return means[100], means[3899]


@pytest.mark.parametrize("name", ["other.csv", "other.jsonl"])
def test_differences_against_a_literal_bootstrap(tmp_path, name):
    generator = random.Random(5)
    ours, theirs = ([generator.choice([1, 1, 2, 3, 7]) for _ in range(60)] for _ in range(2))
    found = OtherAnswers(write(tmp_path / name, rows(theirs)[::-1])).differences(rows(ours))
    hits = [(a == 1) - (b == 1) for a, b in zip(ours, theirs, strict=True)]
    inverses = [1 / a - 1 / b for a, b in zip(ours, theirs, strict=True)]
    for metric, values in (("r@1", hits), ("mrr", inverses)):
        assert found[f"difference_{metric}"] == pytest.approx(statistics.mean(values))
        low, high = literal_interval(values, 1)
        assert found[f"difference_{metric}_low"] == pytest.approx(low, abs=0.02)
        assert found[f"difference_{metric}_high"] == pytest.approx(high, abs=0.02)


def test_a_model_differs_from_itself_by_nothing(tmp_path):
    found = OtherAnswers(write(tmp_path / "q.csv", rows([1, 4, 2]))).differences(rows([1, 4, 2]))
    assert set(found.values()) == {0.0}


@pytest.mark.parametrize(
    ("theirs", "said"),
    [(rows([1, 1]), "no answer to q2"), (rows([1, 1, 1], gallery=8), "among 8"), (rows([1] * 3, "within a"), "q0")],
)
def test_other_queries_are_refused(tmp_path, theirs, said):
    with pytest.raises(MismatchError, match=said):
        OtherAnswers(write(tmp_path / "q.jsonl", theirs)).differences(rows([1, 2, 3]))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("q.csv", "scope,query\na,b\n", "gallery"),
        ("q.csv", "scope,query,gallery,rank\na,b,9,x\n", "line 2"),
        ("q.csv", "scope,query,gallery,rank\na,b,9,\n", "line 2"),
        ("q.jsonl", '{"scope": "a"}\n', "line 1"),
        ("q.jsonl", "1\n", "line 1"),
        ("q.jsonl", "no\n", "line 1"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        OtherAnswers(tmp_path / name)


@pytest.mark.parametrize("name", ["q.csv", "q.jsonl"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(InputError, match=name):
        OtherAnswers(tmp_path / name)
