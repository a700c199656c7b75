import json

import pytest


@pytest.fixture(scope="module")
def tiles(make_store):
    """A folder with pictures and a store of their tiles."""
    return make_store(12)


def test_an_index_is_built_checked_and_searched_by(program, tiles):
    pytest.importorskip("faiss", reason="faiss is not installed")
    store = str(tiles / "tiles.h5")
    picture = str(tiles / "data" / "pictures" / "ground003.png")
    words = ("search", picture, "--store", store, "--index", "faiss", "-k", "2")
    done = program(*words)
    assert done.returncode == 3 and b"no such index" in done.stderr and b"cvgeo index" in done.stderr
    record = json.loads(program("index", store).stdout)
    assert (record["kind"], record["rows"], record["built"]) == ("faiss", 12, "new")
    assert json.loads(program("index", store).stdout)["built"] == "unchanged"
    assert json.loads(program("index", store, "--check").stdout)["recall_at_10"] == 1.0
    hits = [json.loads(line) for line in program(*words).stdout.splitlines()]
    exact = [json.loads(line) for line in program(*words[:-4], "--index", "exact", "-k", "2").stdout.splitlines()]
    assert hits == exact and hits[0]["tile"] == "t003"


def test_searches_are_kept_to_an_area(program, tiles):
    store = str(tiles / "tiles.h5")
    words = ("search", str(tiles / "data" / "pictures" / "ground003.png"), "--store", store)
    # Tiles stand every 0.001 degrees (111 m) north of 52 N, 13 E.
    near = [json.loads(line) for line in program(*words, "--near", "52.008,13,150").stdout.splitlines()]
    assert sorted(one["tile"] for one in near) == ["t007", "t008", "t009"]
    assert program(*words, "--near", "10,10,5").returncode == 3


def test_options_of_the_other_kind_are_refused(program):
    for words in (("--milvus", "x.db"), ("--kind", "milvus", "--pca", "8")):
        done = program("index", "x.h5", *words)
        assert done.returncode == 2 and b"--kind" in done.stderr
