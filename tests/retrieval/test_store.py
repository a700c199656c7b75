import json
import os
import resource
import subprocess
import sys
import zlib
from dataclasses import replace

import h5py
import numpy as np
import pytest

from cvgeo.errors import InputError, MismatchError, OutputError
from cvgeo.retrieval import EmbeddingStore, StoreHeader, StoreRows, writing
from cvgeo.retrieval import rows as row_module
from cvgeo.retrieval import store as store_module
from cvgeo.retrieval.rows import row_checksums
from cvgeo.retrieval.store import relative_to_store

HEADER = StoreHeader(fingerprint="f" * 64, dimension=8, view="aerial", model="tiny", model_config={"name": "tiny"})


def rows_of(names, seed=0, **columns):
    generator = np.random.default_rng(seed)
    return StoreRows.of(list(names), generator.normal(size=(len(names), 8)), [f"{n}.png" for n in names], **columns)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tiles.h5"


def test_rows_come_back_as_written(path):
    rows = rows_of(["a", "b", "été", "name\nwith newline"], lat=[1, 2, np.nan, 4], lon=[5, 6, 7, 8], size=[1, 2, 3, 4])
    rows.content_hash[:] = np.arange(32)
    with writing(path, HEADER) as writer:
        writer.add(rows)
    with EmbeddingStore(path) as store:
        assert store.header == HEADER
        assert list(store.columns.id) == rows.id and list(store.columns.path) == rows.path
        np.testing.assert_array_equal(store.columns.lat, rows.lat)
        np.testing.assert_array_equal(store.columns.content_hash, rows.content_hash)
        np.testing.assert_array_equal(np.concatenate([block for _, block in store.blocks(3)]), rows.embedding)
        np.testing.assert_array_equal(store.fetch([3, 0]), rows.embedding[[3, 0]].astype(np.float32))


def test_names_that_are_not_utf8_survive(path):
    name = os.fsdecode(b"bad\xff.png")
    with writing(path, HEADER) as writer:
        writer.add(rows_of([name]))
        writer.join()
    with EmbeddingStore(path) as store:
        assert list(store.columns.id) == [name]


def test_parts_are_read_together_and_the_newest_row_of_an_id_counts(path):
    first, second = rows_of(["a", "b", "c"], 1), rows_of(["b", "d"], 2)
    with writing(path, HEADER) as writer:
        writer.add(first)
        writer.add(second)
    with EmbeddingStore(path) as store:
        assert list(store.columns.id) == ["a", "c", "b", "d"] and store.parts == 2
        expected = np.concatenate([first.embedding[[0, 2]], second.embedding])
        for at_once in (1, 2, 100):
            blocks = list(store.blocks(at_once))
            np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), expected)
            assert [start for start, _ in blocks] == np.cumsum([0] + [len(b) for _, b in blocks[:-1]]).tolist()
        np.testing.assert_array_equal(store.fetch(np.arange(4)), expected.astype(np.float32))


def test_join_keeps_the_rows_and_removes_the_parts(path):
    with writing(path, HEADER) as writer:
        writer.add(rows_of(["a", "b", "c"], 1))
        writer.add(rows_of(["b", "d"], 2))
        with EmbeddingStore(path) as store:
            before = list(store.columns.id), store.fetch(np.arange(4))
        writer.join()
    with EmbeddingStore(path) as store:
        assert store.parts == 0 and list(store.columns.id) == before[0]
        np.testing.assert_array_equal(store.fetch(np.arange(4)), before[1])
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["tiles.h5"]


def test_a_part_left_by_a_killed_join_is_not_read_twice(path):
    with writing(path, HEADER) as writer:
        writer.add(rows_of(["a", "b"], 1))
        part = path.parent / "tiles.h5.parts" / "part-00000000.h5"
        kept = part.read_bytes()
        writer.join()
        writer.add(rows_of(["a"], 3))
    part.write_bytes(kept)
    with EmbeddingStore(path) as store:
        assert list(store.columns.id) == ["b", "a"]
        np.testing.assert_array_equal(store.fetch([1])[0], rows_of(["a"], 3).embedding[0].astype(np.float32))


def test_a_snapshot_stays_readable_while_it_is_joined(path):
    with writing(path, HEADER) as writer:
        writer.add(rows_of(["a", "b"], 1))
        with EmbeddingStore(path) as store:
            writer.add(rows_of(["c"], 2))
            writer.join()
            assert list(store.columns.id) == ["a", "b"]
            np.testing.assert_array_equal(store.fetch([1])[0], rows_of(["a", "b"], 1).embedding[1].astype(np.float32))
            store_again = EmbeddingStore(path)
        assert len(store_again) == 3
        store_again.close()


def test_join_if_many_joins_young_stores_and_spares_large_ones(path):
    with writing(path, HEADER) as writer:
        writer.add(rows_of([f"{i}" for i in range(40)]))
        writer.join_if_many()
        assert not (path.parent / "tiles.h5.parts").exists()
        writer.add(rows_of(["x"]))
        writer.join_if_many()
        assert (path.parent / "tiles.h5.parts").exists()


def test_another_model_or_view_is_refused_and_overwritten_on_demand(path):
    with writing(path, HEADER) as writer:
        writer.add(rows_of(["a"]))
    for change in ({"fingerprint": "0" * 64}, {"view": "ground"}, {"dimension": 9}):
        with (
            pytest.raises(MismatchError, match="--overwrite"),
            writing(path, StoreHeader(**{**vars(HEADER), **change})),
        ):
            pass
    other = StoreHeader(**{**vars(HEADER), "fingerprint": "0" * 64})
    with writing(path, other, overwrite=True):
        pass
    with EmbeddingStore(path) as store:
        assert len(store) == 0 and store.header == other


def test_second_writer_is_refused_and_a_left_lock_file_is_not_in_the_way(path):
    (path.parent / "tiles.h5.lock").write_text(json.dumps({"pid": 999999, "host": "elsewhere"}))
    with writing(path, HEADER):
        code = "import sys\nfrom tests_header import h\nfrom cvgeo.retrieval import writing\n"
        code += "with writing(sys.argv[1], h): pass"
        (path.parent / "tests_header.py").write_text(f"from cvgeo.retrieval import StoreHeader\nh = {HEADER!r}\n")
        environment = {**os.environ, "PYTHONPATH": str(path.parent)}
        other = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, env=environment, check=False
        )
        assert other.returncode == 1 and f"process {os.getpid()} on" in other.stderr
        with pytest.raises(OutputError, match="already"), writing(path, HEADER):
            pass
    assert not (path.parent / "tiles.h5.lock").exists()


def test_leftovers_of_a_killed_writer_are_removed(path):
    leftover = path.parent / ".tiles.h5.1234abcd.part"
    leftover.write_bytes(b"half")
    with writing(path, HEADER):
        pass
    assert not leftover.exists()


def _flip(path, needle, offset=0):
    content = bytearray(path.read_bytes())
    at = content.index(needle) + offset
    content[at] ^= 0x10
    path.write_bytes(content)


def test_damage_is_named(path):
    rows = rows_of(["a", "b", "c"])
    with writing(path, HEADER) as writer:
        writer.add(rows)
        writer.join()
    _flip(path, rows.embedding[1].tobytes(), 3)
    with pytest.raises(InputError, match="damaged rows: b;") as caught:
        EmbeddingStore(path)
    assert caught.value.path == str(path)


def test_a_change_of_a_position_is_noticed_too(path):
    with writing(path, HEADER) as writer:
        writer.add(rows_of(["a", "b"], lat=[51.123456, 2], lon=[1, 2]))
        writer.join()
    _flip(path, np.float64(51.123456).tobytes(), 2)
    with pytest.raises(InputError, match="damaged rows: a;"):
        EmbeddingStore(path)


@pytest.mark.parametrize("keep", [0, 1, 100, 2000, 0.5, 0.99])
def test_truncated_stores_are_refused_in_one_line(path, keep):
    with writing(path, HEADER) as writer:
        writer.add(rows_of([str(i) for i in range(500)]))
        writer.join()
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
    with pytest.raises(InputError) as caught:
        EmbeddingStore(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_random_damage_never_gives_another_error(path):
    with writing(path, HEADER) as writer:
        writer.add(rows_of([str(i) for i in range(50)]))
        writer.join()
    content = path.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(20):
        damaged = bytearray(content)
        at = int(generator.integers(0, len(content) - 64))
        damaged[at : at + 64] = generator.bytes(64)
        path.write_bytes(damaged)
        try:
            with EmbeddingStore(path) as store:
                list(store.blocks())
        except (InputError, MismatchError) as error:
            assert "\n" not in str(error)


def test_foreign_and_missing_files(path):
    with pytest.raises(InputError, match="no such store"):
        EmbeddingStore(path)
    path.write_text("hello")
    with pytest.raises(InputError, match="not an embedding store"):
        EmbeddingStore(path)
    path.unlink()
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(InputError, match="not an embedding store"):
        EmbeddingStore(path)
    with pytest.raises(InputError, match="is a folder, not an embedding store"):
        EmbeddingStore(path.parent)
    with pytest.raises(OutputError, match="folder"), writing(path.parent, HEADER):
        pass


def test_newer_format_is_a_mismatch(path):
    with writing(path, HEADER):
        pass
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 99
    with pytest.raises(MismatchError, match="update cvgeo"):
        EmbeddingStore(path)


@pytest.fixture
def old_format(monkeypatch):
    """This program as a later one, of format 2: format 1, as far as it knows, called `view` `side` and had no sizes."""

    def make_old(file):
        with h5py.File(file, "r+") as opened:
            sums = old_sums(StoreRows.of([""] * len(opened["id"]), opened["embeddings"][:]))
            opened.attrs["side"] = opened.attrs["view"]
            del opened.attrs["view"], opened["size"], opened["checksum"]
            opened["checksum"], opened.attrs["format_version"] = sums, 1

    def old_sums(rows):
        return np.array([zlib.crc32(row.tobytes()) for row in rows.embedding], np.uint32)

    def attributes(old):
        return {**old, "view": old["side"]}

    def columns(old):
        return {**old, "size": np.zeros(len(old["id"]), np.int64)}

    monkeypatch.setattr(row_module, "FORMAT_VERSION", 2)
    for module in (row_module, store_module):
        monkeypatch.setattr(module, "OLDEST_VERSION", 2)
    monkeypatch.setitem(row_module.MIGRATIONS, 1, row_module.Migration(attributes, columns, old_sums))
    return make_old


def test_an_older_store_is_read_as_it_is_and_brought_up_to_date_by_a_writer(path, old_format):
    first, second = rows_of(["a", "b"], 1, size=[1, 2]), rows_of(["b", "c"], 2, size=[3, 4])
    with writing(path, HEADER) as writer:
        writer.add(first)
        writer.add(second)
    files = [path, *sorted((path.parent / "tiles.h5.parts").iterdir())]
    for file in files:
        old_format(file)
    before = [file.read_bytes() for file in files]
    with EmbeddingStore(path) as store:
        assert (store.header, list(store.columns.id), store.format_version) == (HEADER, ["a", "b", "c"], 1)
        assert store.columns.size.tolist() == [0, 0, 0] and store.verify() == []
        vectors = store.fetch(np.arange(3))
    assert [file.read_bytes() for file in files] == before
    with writing(path, HEADER) as writer:
        writer.add(rows_of(["d"], 3, size=[5]))
    with EmbeddingStore(path) as store:
        assert store.format_version == 2 and list(store.columns.id) == ["a", "b", "c", "d"]
        np.testing.assert_array_equal(store.fetch(np.arange(3)), vectors)
        assert store.columns.size.tolist() == [0, 0, 0, 5] and store.verify() == []
    with h5py.File(path) as file:
        assert file.attrs["format_version"] == 2 and "size" in file


def test_damage_of_an_older_store_is_named_and_its_update_leaves_it_alone(path, old_format):
    with writing(path, HEADER) as writer:
        writer.add(rows_of(["a", "b"]))
        writer.join()
    old_format(path)
    with h5py.File(path, "r+") as file:
        file["embeddings"][1] = 0
    before = path.read_bytes()
    for open_it in (EmbeddingStore, lambda path: writing(path, HEADER).__enter__()):
        with pytest.raises(InputError, match="damaged rows: b"):
            open_it(path)
    assert path.read_bytes() == before


def test_a_version_that_no_step_leads_from_is_told(path):
    with writing(path, HEADER):
        pass
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 0
    with pytest.raises(MismatchError, match=r"store format 0 of an older cvgeo.*--overwrite"):
        EmbeddingStore(path)


def test_a_damaged_store_is_not_joined(path):
    with writing(path, HEADER) as writer:
        rows = rows_of(["a", "b"])
        writer.add(rows)
        _flip(path.parent / "tiles.h5.parts" / "part-00000000.h5", rows.embedding[0].tobytes())
        with pytest.raises(InputError, match="damaged rows: a;"):
            writer.join()
        assert (path.parent / "tiles.h5.parts" / "part-00000000.h5").exists()


def test_no_space_leaves_the_store_as_it_was(path, monkeypatch):
    with writing(path, HEADER) as writer:
        writer.add(rows_of(["a"]))
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(OutputError, match="no space left"):
                writer.add(rows_of(["b"]))
    with EmbeddingStore(path) as store:
        assert list(store.columns.id) == ["a"]


@pytest.mark.parametrize("room", [0, 100, 3000, 20_000])
def test_a_write_that_fails_is_one_error_and_leaves_nothing(path, room):
    """As on a full disk: HDF5 itself would raise a RuntimeError, or end the process, when it closes the file."""
    with writing(path, HEADER) as writer:
        writer.add(rows_of(["a"]))
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        try:
            with pytest.raises(OutputError, match=r"part-00000001.h5: cannot write: file too large"):
                writer.add(rows_of([f"b{number}" for number in range(2000)]))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert [entry.name for entry in (path.parent / "tiles.h5.parts").iterdir()] == ["part-00000000.h5"]
    with EmbeddingStore(path) as store:
        assert list(store.columns.id) == ["a"]


def test_no_error_is_pending_while_hdf5_goes_on(path, monkeypatch):
    """Python finds no inherited method while one is, unless it remembers where it found it last."""
    from cvgeo.retrieval import rows

    def write(sink, data, plain=rows._Sink.write):
        sys._clear_type_cache()
        return plain(sink, data)

    monkeypatch.setattr(rows._Sink, "write", write)
    test_a_write_that_fails_is_one_error_and_leaves_nothing(path, 100)


def test_what_could_not_be_written_reads_as_zeros(path):
    """HDF5 would take what else lies in memory for its own, and the process would now and then crash."""
    from cvgeo.retrieval.rows import _Sink

    with _Sink(path, "w+") as sink:
        sink.write(b"abc")
        sink.fault = OSError("full")
        assert sink.write(b"lost") == 4
        sink.seek(1)
        buffer = bytearray(b"x" * 8)
        assert sink.readinto(buffer) == 8 and buffer == b"bc" + bytes(6)


def test_overwrite_spares_what_is_no_store(path):
    picture = path.with_suffix(".tif")
    picture.write_bytes(b"II*")
    with pytest.raises(InputError, match=r"tiles.tif: is no embedding store"), writing(picture, HEADER, overwrite=True):
        pass
    assert picture.read_bytes() == b"II*"
    path.write_bytes(b"what was a store")
    with writing(path, HEADER, overwrite=True) as writer:
        writer.add(rows_of(["a"]))
    with EmbeddingStore(path) as store:
        assert list(store.columns.id) == ["a"]


def test_checksums_are_crc32_of_the_row():
    import zlib

    rows = rows_of(["a", "b"], lat=[1.5, np.nan])
    row = rows.take(np.array([1]))
    numbers = b"".join(
        getattr(row, name).tobytes() for name in ("lat", "lon", "gsd_m", "ground_m", "placement", "size", "mtime_ns")
    )
    expected = zlib.crc32(row.embedding.tobytes() + numbers + row.content_hash.tobytes() + b"b\nb.png")
    assert row_checksums(rows)[1] == expected


def test_paths_are_relative_where_they_move_with_the_store(tmp_path):
    store = tmp_path / "a" / "x.h5"
    assert relative_to_store(store, tmp_path / "a" / "tiles" / "1.png") == os.path.join("tiles", "1.png")
    assert relative_to_store(store, tmp_path / "b" / "1.png") == str(tmp_path / "b" / "1.png")


def test_memory_of_reading_is_a_block(path):
    with writing(path, HEADER) as writer:
        writer.add(rows_of([str(i) for i in range(1000)]))
    with EmbeddingStore(path) as store:
        assert max(len(block) for _, block in store.blocks(64)) == 64


def mapped(names, seed=0):
    """Rows with azimuth maps, and the header of their store."""
    generator = np.random.default_rng(seed + 100)
    return rows_of(names, seed, azimuth=generator.normal(size=(len(names), 6)))


MAPPED = replace(HEADER, azimuth_dimension=6, azimuth_model="any", azimuth_fingerprint="a" * 64)


def test_azimuth_maps_come_back_from_parts_and_from_one_file(path):
    first, second = mapped("abc", 1), mapped("bd", 2)
    expected = np.concatenate([first.azimuth[[0, 2]], second.azimuth]).astype(np.float32)
    with writing(path, MAPPED) as writer:
        writer.add(first)
        writer.add(second)
        with EmbeddingStore(path) as store:
            assert list(store.columns.id) == list("acbd") and store.columns.take(np.arange(4)).azimuth.shape == (4, 0)
            np.testing.assert_array_equal(store.fetch_azimuth(np.array([3, 0])), expected[[3, 0]])
        writer.join()
    with EmbeddingStore(path) as store:
        assert store.header == MAPPED and store.parts == 0 and not store.verify()
        np.testing.assert_array_equal(store.fetch_azimuth(np.arange(4)), expected)
        np.testing.assert_array_equal(store.fetch(np.array([2])), second.embedding[:1].astype(np.float32))


def test_a_changed_azimuth_map_is_noticed(path):
    with writing(path, MAPPED) as writer:
        writer.add(mapped("abc"))
        writer.join()
    with h5py.File(path, "r+") as file:
        file["azimuth"][1, 2] += 1
    with pytest.raises(InputError, match="damaged rows: b"):
        EmbeddingStore(path)


def test_stores_with_and_without_azimuth_maps_are_told_apart(path, tmp_path):
    with writing(path, HEADER) as writer:
        writer.add(rows_of("ab"))
    with EmbeddingStore(path) as store:
        assert store.fetch_azimuth(np.array([0, 1])).shape == (2, 0)
    with pytest.raises(MismatchError, match="holds no azimuth maps; this call asks for such maps of any"):
        writing(path, MAPPED).__enter__()
    with h5py.File(path) as file:
        # Such a store is what it was before there were azimuth maps.
        assert file.attrs["format_version"] == 1 and "azimuth" not in file
        assert [name for name in file.attrs if name.startswith("azimuth")] == ["azimuth_columns"]
    other = tmp_path / "mapped.h5"
    with writing(other, MAPPED) as writer:
        writer.add(mapped("ab"))
    with pytest.raises(MismatchError, match="holds azimuth maps of any; this call asks for none"):
        writing(other, HEADER).__enter__()
