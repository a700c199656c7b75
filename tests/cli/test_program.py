"""Exit statuses, settings, streams and what is printed, through the program itself."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.terminal import in_terminal


def shown(result: subprocess.CompletedProcess[bytes]) -> dict:
    assert result.returncode == 0, result.stderr.decode()
    return json.loads(result.stdout)


def one_line(result: subprocess.CompletedProcess[bytes]) -> str:
    lines = result.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


class TestCalls:
    def test_version(self, program):
        result = program("--version")
        assert (result.returncode, result.stderr) == (0, b"")
        assert result.stdout.startswith(b"cvgeo ")

    def test_version_is_not_asked_for_by_the_environment(self, program):
        assert b"Usage:" in program("--help", env={"CVGEO_VERSION": "1"}).stdout

    @pytest.mark.parametrize("word", ["-h", "--help"])
    def test_help(self, program, word):
        result = program(word)
        assert result.returncode == 0
        assert b"Usage: cvgeo [OPTIONS] COMMAND ..." in result.stdout

    def test_no_command_is_usage(self, program):
        assert program().returncode == 2

    def test_unknown_command_names_the_nearest(self, program):
        result = program("shwo", toy=True)
        assert result.returncode == 2
        assert b"show" in result.stderr

    def test_unknown_option_names_the_nearest(self, program):
        result = program("show", "--coun", "3", toy=True)
        assert result.returncode == 2
        assert b"--count" in result.stderr
        assert b"Usage: cvgeo show [OPTIONS] [NAME...]" in result.stderr

    def test_quiet_before_and_after_the_command(self, program):
        assert program("show", toy=True).stderr == b"cvgeo: showing\n"
        assert program("-q", "show", toy=True).stderr == b""
        assert program("show", "--quiet", toy=True).stderr == b""


class TestFaults:
    @pytest.mark.parametrize(
        ("how", "status", "text"),
        [
            ("input", 3, "cvgeo: x  y.png: is no picture; give a picture"),
            ("mismatch", 4, "cvgeo: does not fit"),
            ("output", 1, "cvgeo: cannot be written"),
            ("memory", 1, "cvgeo: out of memory"),
            ("permission", 3, "cvgeo: secret.tif: cannot read: permission denied"),
            ("space", 1, "cvgeo: output: cannot write: no space left on device"),
        ],
    )
    def test_expected_fault_is_one_line(self, program, how, status, text):
        result = program("fail", how, toy=True)
        assert result.returncode == status
        assert one_line(result).startswith(text)

    def test_debug_shows_the_traceback(self, program):
        for result in (
            program("fail", "input", "--debug", toy=True),
            program("fail", "input", toy=True, env={"CVGEO_DEBUG": "1"}),
        ):
            assert b"Traceback" in result.stderr

    def test_defect_shows_its_traceback(self, program):
        result = program("fail", "defect", toy=True)
        assert result.returncode == 1
        assert b"ValueError: a defect" in result.stderr

    @pytest.mark.parametrize(("done", "status"), [("0", 3), ("2", 5)])
    def test_failed_items(self, program, done, status):
        result = program("fail", "items", "--done", done, toy=True)
        assert result.returncode == status
        lines = result.stderr.decode().splitlines()
        assert lines == ["cvgeo: a.png: is broken", r"cvgeo: b\nc.png: is broken", f"cvgeo: {done} done, 2 failed"]


class TestSettings:
    def write(self, program, tmp_path: Path, project: str = "", user: str = "") -> dict[str, str]:
        (tmp_path / "here" / "cvgeo.toml").write_text(project)
        (tmp_path / "user.toml").write_text(user)
        return {"CVGEO_CONFIG": str(tmp_path / "user.toml")}

    def test_precedence(self, program, tmp_path):
        env = self.write(
            program, tmp_path, "[show]\ncount = 3\nscale = 3", "[show]\ncount = 2\nscale = 2\nkind='fancy'"
        )
        assert shown(program("show", toy=True))["count"] == 3
        record = shown(program("show", toy=True, env=env))
        assert (record["count"], record["scale"], record["kind"]) == (3, 3.0, "fancy")
        record = shown(program("show", toy=True, env=env | {"CVGEO_SHOW_COUNT": "4"}))
        assert (record["count"], record["scale"]) == (4, 3.0)
        record = shown(program("show", "--count", "5", toy=True, env=env | {"CVGEO_SHOW_COUNT": "4"}))
        assert record["count"] == 5

    def test_default_without_files(self, program):
        assert shown(program("show", toy=True))["count"] == 1

    def test_users_own_folder(self, program, environment):
        folder = Path(environment["HOME"]) / ".config" / "cvgeo"
        folder.mkdir(parents=True)
        (folder / "config.toml").write_text("jobs = 7")
        assert shown(program("show", toy=True))["jobs"] == 7

    def test_top_of_the_file_holds_for_every_command(self, program, tmp_path):
        self.write(program, tmp_path, "jobs = 2\n[group.show]\njobs = 3\ncount = 9")
        assert shown(program("show", toy=True))["jobs"] == 2
        record = shown(program("group", "show", toy=True))
        assert (record["jobs"], record["count"]) == (3, 9)

    def test_every_kind_of_value(self, program, tmp_path):
        text = "[show]\ncolour='green'\ntag=['a','b']\nfolder='f'\nturn=false\njson=true\nquiet=true"
        self.write(program, tmp_path, text)
        result = program("show", toy=True)
        record = shown(result)
        assert result.stderr == b""
        assert (record["colour"], record["tag"], record["folder"], record["turn"]) == ("green", ["a", "b"], "f", False)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("cuont = 3", "cvgeo: cvgeo.toml: unknown setting 'cuont'; did you mean count?"),
            ("[show]\ncuont = 3", "cvgeo: cvgeo.toml: unknown setting 'cuont'; did you mean count?"),
            ("[shwo]\ncount = 3", "cvgeo: cvgeo.toml: unknown setting 'shwo'; did you mean show?"),
            ("[show]\ncount = 'x'", "cvgeo: cvgeo.toml: count = 'x' does not fit; give a whole number"),
            ("[show]\ncount = 10", "cvgeo: cvgeo.toml: count = 10 does not fit; give at most 9"),
            ("[show]\ncount = true", "cvgeo: cvgeo.toml: count = True does not fit; give a whole number"),
            ("[show]\nkind = 'odd'", "cvgeo: cvgeo.toml: kind = 'odd' does not fit; give one of plain, fancy"),
            ("[show]\nfolder = 3", "cvgeo: cvgeo.toml: folder = 3 does not fit; give a text in quotes"),
            ("show = 3", "cvgeo: cvgeo.toml: 'show' is a command: its settings are a table; write [show]"),
            ("count = ", "cvgeo: cvgeo.toml: not valid TOML: "),
        ],
    )
    def test_wrong_file(self, program, tmp_path, text, expected):
        self.write(program, tmp_path, text)
        result = program("show", toy=True)
        assert result.returncode == 2
        assert one_line(result).startswith(expected)
        assert program("show", "--help", toy=True).returncode == 0

    def test_missing_file_that_was_named(self, program):
        result = program("show", toy=True, env={"CVGEO_CONFIG": "none.toml"})
        assert result.returncode == 3
        assert one_line(result) == "cvgeo: none.toml: no such file; mend or unset CVGEO_CONFIG"


class TestStreams:
    def shell(self, toy_words, environment, tmp_path, line: str, shell: str = "bash"):
        environment = environment | {"TOY": " ".join(toy_words)}
        return subprocess.run([shell, "-c", line], env=environment, cwd=tmp_path, capture_output=True, timeout=60)

    def test_reader_that_leaves(self, toy_words, environment, tmp_path):
        line = "set -o pipefail; $TOY lines | head -1; echo ${PIPESTATUS[@]}"
        result = self.shell(toy_words, environment, tmp_path, line)
        assert result.stdout == b'{"line": 0}\n141 0\n'
        assert result.stderr == b""

    def test_help_to_a_reader_that_left(self, toy_words, environment, tmp_path):
        result = self.shell(toy_words, environment, tmp_path, "$TOY show --help | true; echo ${PIPESTATUS[0]}")
        assert result.stdout in (b"141\n", b"0\n")
        assert result.stderr == b""

    @pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
    def test_closed_streams(self, toy_words, environment, tmp_path, closed):
        result = self.shell(toy_words, environment, tmp_path, f"$TOY show --json {closed}")
        assert result.returncode == 0
        assert b"Traceback" not in result.stderr
        assert result.stdout == b"" if ">&-" in closed.split() else json.loads(result.stdout)["count"] == 1

    def test_messages_do_not_become_data(self, toy_words, environment, tmp_path):
        result = self.shell(toy_words, environment, tmp_path, "$TOY fail input 2>&-")
        assert (result.returncode, result.stdout) == (3, b"")

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is a Linux device")
    def test_full_disk_at_stdout(self, toy_words, environment, tmp_path):
        result = self.shell(toy_words, environment, tmp_path, "$TOY lines > /dev/full")
        assert result.returncode == 1
        assert one_line(result).startswith("cvgeo: standard output: cannot write: no space left on device")

    def test_names_that_are_no_utf8(self, program):
        name = b"caf\xe9\n.png"
        record = json.loads(program("show", name, toy=True).stdout)
        assert os.fsencode(record["name"]) == name
        assert b"caf\xe9" in program("show", name, "--format", "csv", toy=True).stdout
        assert program("show", name, "--format", "table", toy=True).returncode == 0

    def test_no_utf8_locale(self, program):
        record = json.loads(program("show", "naïve", toy=True, env={"LC_ALL": "C", "PYTHONUTF8": "0"}).stdout)
        assert record["name"].encode("ascii", "surrogateescape") == "naïve".encode()


class TestTerminal:
    def test_table_on_a_terminal_fits_its_width(self, toy_words, environment, tmp_path):
        status, output = in_terminal([*toy_words, "show", "[bold]x[/]\x1b[31m"], environment, tmp_path, 60)
        assert status == 0
        assert "[bold]" in output
        assert "\x1b[31m" not in output
        assert all(len(line) < 60 for line in output.splitlines() if "\x1b" not in line)

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "koi8-r"])
    def test_letters_that_the_locale_has_not(self, toy_words, environment, tmp_path, encoding):
        words = [*toy_words, "show", b"caf\xe9 \xe4\xb8\xad", "--format", "table"]
        status, output = in_terminal(words, environment | {"PYTHONIOENCODING": encoding}, tmp_path)
        assert status == 0 and "Traceback" not in output
        assert "\\u4e2d" in output and (encoding == "koi8-r" or "-----" in output)

    @pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
    def test_plain_help(self, toy_words, environment, tmp_path, variables):
        status, output = in_terminal([*toy_words, "show", "--help"], environment | variables, tmp_path)
        assert status == 0
        assert "\x1b" not in output

    def test_dressed_help(self, toy_words, environment, tmp_path):
        _, output = in_terminal([*toy_words, "show", "--help"], environment, tmp_path)
        assert "\x1b[1mUsage:\x1b[0m cvgeo show" in output

    @pytest.mark.parametrize("columns", [40, 50, 80, 200])
    def test_help_fits(self, toy_words, environment, tmp_path, columns):
        _, output = in_terminal([*toy_words, "show", "--help"], environment | {"TERM": "dumb"}, tmp_path, columns)
        lines = [line for line in output.splitlines() if not line.startswith("  $ ")]
        assert max(map(len, lines)) < min(columns, 80)

    def test_forced_colour_leaves_data_alone(self, program):
        assert b"\x1b" not in program("show", toy=True, env={"FORCE_COLOR": "1"}).stdout
        assert b"\x1b" not in program("show", "--help", toy=True, env={"FORCE_COLOR": "1"}).stdout

    def test_no_progress_away_from_a_terminal(self, program):
        result = program("work", "0", toy=True)
        assert (result.returncode, result.stderr) == (0, b"")


def test_help_groups_options_and_shows_examples(program):
    text = program("show", "--help", toy=True).stdout.decode()
    order = ["Usage:", "Arguments:", "Options:", "Numbers options:", "General options:", "Examples:"]
    assert [text.index(word) for word in order] == sorted(text.index(word) for word in order)
    assert "  -c, --count N  How many. [default: 1]" in text
    assert "--turn, --no-turn" in text
    assert "  # an example of a toy\n  $ cvgeo show a.png --count 3\n" in text


def test_missing_system_library_of_opencv_is_one_line(program, tmp_path):
    folder = tmp_path / "broken" / "cv2"
    folder.mkdir(parents=True)
    fault = "libGL.so.1: cannot open shared object file: No such file or directory"
    (folder / "__init__.py").write_text(f"raise ImportError({fault!r})\n")
    (tmp_path / "here" / "tile.ppm").write_bytes(b"P6 8 8 255\n" + bytes(192))
    result = program("polar", "tile.ppm", env={"PYTHONPATH": str(folder.parent)})
    assert result.returncode == 1
    line = one_line(result)
    assert "libGL.so.1" in line
    assert "libgl1" in line
    assert "opencv-python-headless" in line
