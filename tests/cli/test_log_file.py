"""`--log-file`: JSON Lines of what a call was asked, said and ended with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest

from cvgeo.cli import log


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_settings_failures_and_status_are_appended(program, tmp_path):
    path = tmp_path / "here" / "calls.jsonl"
    done = program("polar", "none.png", "--heading", "90", "--log-file", "calls.jsonl")
    program("--quiet", "--log-file", "calls.jsonl", "models", "nothing*")
    first, *others = lines_of(path)
    assert (first["command"], first["level"], first["message"]) == ("polar", "info", "start")
    assert first["settings"]["aerial"] == ["none.png"] and first["settings"]["heading"] == 90.0
    failed = next(line for line in others if line.get("item") == "none.png")
    assert failed["level"] == "error" and failed["message"] in done.stderr.decode()
    ends = [line for line in others if line["message"] == "end"]
    assert [(line["command"], line["status"]) for line in ends] == [("polar", done.returncode), ("models", 2)]
    assert done.returncode == 3 and all(line["time"].endswith("+00:00") for line in others)
    # An error that ends the call stands there as it stands on stderr.
    assert [line["level"] for line in others if line["command"] == "models"] == ["info", "error", "error"]


def test_the_variable_names_it_too_and_help_writes_none(program, tmp_path):
    path = tmp_path / "here" / "calls.jsonl"
    program("polar", "--help", env={"CVGEO_LOG_FILE": str(path)})
    assert not path.exists()
    program("polar", "none.png", env={"CVGEO_LOG_FILE": str(path)})
    assert lines_of(path)[0]["command"] == "polar"


def test_a_file_that_cannot_be_opened_ends_the_call_in_one_line(program):
    done = program("polar", "none.png", "--log-file", "missing/calls.jsonl")
    assert done.returncode == 1 and done.stderr.decode().splitlines() == [
        "cvgeo: missing/calls.jsonl: cannot write: no such file or directory; create the folder first"
    ]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_file_that_cannot_be_written_is_told_once_and_the_call_goes_on(program):
    done = program("polar", "none.png", "--log-file", "/dev/full")
    told = [line for line in done.stderr.decode().splitlines() if "/dev/full" in line]
    assert done.returncode == 3 and len(told) == 1 and "logs no more" in told[0] and "none.png" in done.stderr.decode()


def test_an_interrupted_call_says_so(tmp_path, environment, toy_words):
    path = tmp_path / "calls.jsonl"
    words = [*toy_words, "work", "60", "--log-file", str(path)]
    with subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as call:
        assert call.stdout.readline() == b"started\n"
        time.sleep(0.1)
        call.send_signal(signal.SIGTERM)
        call.communicate(timeout=60)
    assert (lines_of(path)[-1]["message"], lines_of(path)[-1]["status"]) == ("end", 143) and call.returncode == 143


def test_keys_in_urls_are_not_logged(tmp_path):
    path = tmp_path / "log"
    log.start(path, "tiles", {"aerial": ["https://host/{z}/{x}/{y}.png?key=secret"]}, print)
    log.write("warning", "https://host/1/2/3.png?key=secret: no answer; wait")
    log.end(1)
    assert "secret" not in path.read_text() and "no answer; wait" in path.read_text()
    log.write("info", "after the end")
    assert "after the end" not in path.read_text()
