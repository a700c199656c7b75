"""Files and folders appear whole or not at all, and nothing is left of calls that were killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cvgeo.errors import OutputError, UnfetchedError
from cvgeo.paths import FileBatch, atomic_file, atomic_folder, resumable_folder, scratch_folder


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with atomic_file(path) as temporary:
        temporary.write_text("done")
        assert not path.exists()
    assert path.read_text() == "done" and [one.name for one in path.parent.iterdir()] == ["file.txt"]
    with pytest.raises(RuntimeError), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "done" and [one.name for one in path.parent.iterdir()] == ["file.txt"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder"
    with pytest.raises(RuntimeError), atomic_folder(path) as temporary:
        (temporary / "half").write_text("")
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with atomic_folder(path) as temporary:
        (temporary / "whole").write_text("")
    assert (path / "whole").exists() and list(tmp_path.iterdir()) == [path]
    with pytest.raises(OutputError), atomic_folder(path):
        pass


def test_a_killed_call_goes_on_and_its_half_written_files_do_not_stay(tmp_path):
    path = tmp_path / "data"
    with pytest.raises(KeyboardInterrupt), resumable_folder(path, "mark") as building:
        (building / "tiles").mkdir()
        (building / "tiles" / "1.jpg").write_text("whole")
        # What atomic_file leaves when the process is killed between writing and renaming.
        with atomic_file(building / "tiles" / "2.jpg") as temporary:
            temporary.write_text("half")
            half = building / "tiles" / temporary.name
            left = half.read_text()
        (building / "tiles" / "2.jpg").unlink()
        half.write_text(left)
        raise KeyboardInterrupt
    assert not path.exists() and half.exists()
    with resumable_folder(path, "mark") as again:
        assert again == building and (again / "tiles" / "1.jpg").read_text() == "whole"
        (again / ".keep").write_text("a hidden file of the data set's own")
    assert sorted(str(one.relative_to(path)) for one in path.rglob("*")) == [".keep", "tiles", "tiles/1.jpg"]
    assert list(tmp_path.iterdir()) == [path]


def test_what_other_settings_left_behind_is_removed(tmp_path):
    with pytest.raises(KeyboardInterrupt), resumable_folder(tmp_path / "data", "old"):
        raise KeyboardInterrupt
    with resumable_folder(tmp_path / "data", "new") as building:
        (building / "file").write_text("")
    assert list(tmp_path.iterdir()) == [tmp_path / "data"]


def test_a_batch_appears_whole_when_it_is_full_and_at_the_end(tmp_path):
    def visible():
        return sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("."))

    with FileBatch(size=3) as batch:
        for number in range(2):
            batch.write(tmp_path / f"{number}", bytes([number]) * 1000)
        time.sleep(0.05)
        assert visible() == []
        batch.write(tmp_path / "2", b"\2" * 1000)
        until = time.monotonic() + 60  # in a thread of its own
        while len(visible()) < 3 and time.monotonic() < until:
            time.sleep(0.01)
        batch.write(tmp_path / "3", b"\3" * 1000)
        assert visible() == ["0", "1", "2"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        f"{number}": bytes([number]) * 1000 for number in range(4)
    }


def test_a_batch_left_by_an_exception_keeps_what_was_written(tmp_path):
    with pytest.raises(RuntimeError, match="elsewhere"), FileBatch() as batch:
        batch.write(tmp_path / "done", b"whole")
        raise RuntimeError("elsewhere")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("done", b"whole")]


@pytest.mark.parametrize("size", [2, 100])
def test_a_file_of_a_batch_that_cannot_be_written_is_one_line_and_nothing_half_stays(tmp_path, size):
    (tmp_path / "folder" / "in the way").mkdir(parents=True)
    with pytest.raises(OutputError, match="cannot write: ") as caught, FileBatch(size) as batch:
        batch.write(tmp_path / "good", b"whole")
        batch.write(tmp_path / "missing" / "bad", b"lost")
    assert "\n" not in str(caught.value) and str(tmp_path / "missing" / "bad") in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    with pytest.raises(OutputError, match="folder: cannot write: is a directory"), FileBatch(size) as batch:
        batch.write(tmp_path / "folder", b"lost")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    # The fault that came first is the one that is told.
    with pytest.raises(RuntimeError, match="first"), FileBatch(size) as batch:
        batch.write(tmp_path / "missing" / "bad", b"lost")
        raise RuntimeError("first")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_threads_share_a_batch_and_no_file_is_ever_seen_half(tmp_path):
    data = {f"{number:03d}": bytes([number % 256]) * 50_000 for number in range(300)}
    torn = []

    def watch():
        while not finished.is_set():
            for path in tmp_path.glob("???"):
                if path.read_bytes() != data[path.name]:
                    torn.append(path.name)

    finished = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    with FileBatch(size=16) as batch, ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda name: batch.write(tmp_path / name, data[name]), data))
    finished.set()
    watcher.join()
    assert not torn and sorted(path.name for path in tmp_path.iterdir()) == sorted(data)


def test_a_fault_of_the_network_keeps_what_was_done_but_no_empty_folder(tmp_path):
    with pytest.raises(UnfetchedError), resumable_folder(tmp_path / "data", "mark") as building:
        (building / "tiles").mkdir()
        raise UnfetchedError("no answer")
    assert not list(tmp_path.iterdir())
    with pytest.raises(UnfetchedError), resumable_folder(tmp_path / "data", "mark") as building:
        (building / "tile").write_text("done")
        raise UnfetchedError("no answer")
    assert list(tmp_path.iterdir()) == [building] and (building / "tile").read_text() == "done"
    with pytest.raises(OutputError), resumable_folder(tmp_path / "data", "mark"):
        raise OutputError("another fault")
    assert not list(tmp_path.iterdir())


def is_gone(path, seconds=10.0):
    end = time.monotonic() + seconds
    while path.exists() and time.monotonic() < end:
        time.sleep(0.02)
    return not path.exists()


def test_a_scratch_folder_is_gone_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(RuntimeError), scratch_folder() as folder:
        (folder / "file").write_text("")
        assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
        raise RuntimeError
    assert not list(tmp_path.iterdir())


# The default actions, as if it were for the second time: nothing is unwound.
KILLED = """
import signal, sys
from cvgeo.paths import scratch_folder, utf8_path
signal.signal(signal.SIGINT, signal.SIG_DFL)
kept = scratch_folder() if sys.argv[1] == "scratch" else utf8_path("/etc/caf\\udce9/x.tif")
made = kept.__enter__() if sys.argv[1] == "scratch" else kept
print("made", flush=True)
signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
@pytest.mark.parametrize("what", ["scratch", "links"])
def test_a_killed_process_leaves_nothing_in_the_temporary_folder(tmp_path, what, number):
    settings = {"stdout": subprocess.PIPE, "start_new_session": True, "env": {**os.environ, "TMPDIR": str(tmp_path)}}
    with subprocess.Popen([sys.executable, "-c", KILLED, what], **settings) as process:
        assert process.stdout.readline() == b"made\n"
        (made,) = tmp_path.iterdir()
        (made / "more").write_text("")
        os.killpg(process.pid, number)
        assert process.wait() == -number
    assert is_gone(made)
