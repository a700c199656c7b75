"""The real program in a fork of a process that has its libraries loaded: a call takes a tenth of a second, not three.

    python preloaded.py --serve SOCKET      loads them, says `ready`, and answers calls until its stdin ends
    python preloaded.py SOCKET WORD...      is `cvgeo WORD...`: its streams, folder, environment, signals and status

Only the start differs from the program's own; what depends on it is tested with the program itself.
"""

import atexit
import contextlib
import fcntl
import gc
import json
import os
import signal
import socket
import sys
import threading

BEYOND_THE_STREAMS = 10


def call(address: str, words: list[str]) -> int:
    """Be the program."""
    signals = signal.SIGINT, signal.SIGTERM
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # until there is someone to pass them on to
    streams = [number for number in (0, 1, 2) if _is_open(number)]
    with socket.socket(socket.AF_UNIX) as plain:
        line = socket.socket(fileno=fcntl.fcntl(plain.fileno(), fcntl.F_DUPFD_CLOEXEC, BEYOND_THE_STREAMS))
    line.connect(address)
    told = {"words": words, "folder": os.getcwd(), "environment": dict(os.environ), "streams": streams}
    data = json.dumps(told).encode()
    socket.send_fds(line, [len(data).to_bytes(8, "big")], streams)
    line.sendall(data)
    answers = line.makefile()
    pid = int(answers.readline())
    for number in signals:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda given, _: _pass_on(pid, given))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    status = int(answers.readline())
    for number in signals:
        signal.signal(number, signal.SIG_IGN)  # the program is gone
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def _pass_on(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def serve(address: str) -> None:
    """Load what the program may need and fork one for each call. Returns in the forks, which go on as the program."""
    import importlib

    # That of torch is loaded, which takes more than a second, where a model is laid out without numbers.
    needed = ("matplotlib.pyplot", "rasterio.shutil", "rich.progress", "rich.table", "typer._adapters", "torch._dynamo")
    for module in needed:
        importlib.import_module(module)
    from cvgeo.cli import app

    for name, path, _ in app.COMMANDS:
        for pipeline in (path, *name.split(), path.replace("build_dataset_", "build_")):
            if importlib.util.find_spec(f"cvgeo.pipelines.{pipeline}"):
                importlib.import_module(f"cvgeo.pipelines.{pipeline}")
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(16)
    print("ready", flush=True)
    while True:
        line, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            return _answer(line)
        line.close()


def _answer(line: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, handles, _, _ = socket.recv_fds(line, 8, 3)
    told = json.loads(line.makefile("rb").read(int.from_bytes(size, "big")))
    pid = os.fork()
    if pid == 0:
        line.close()
        return _become(told, handles)
    line.sendall(f"{pid}\n".encode())
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    line.sendall(f"{status}\n".encode())
    os._exit(0)


def _become(told: dict, handles: list[int]) -> None:
    for number in (0, 1, 2):
        os.close(number)
    for number, handle in zip(told["streams"], handles, strict=True):
        os.dup2(handle, number)
        os.close(handle)
    os.chdir(told["folder"])
    os.environ.clear()
    os.environ.update(told["environment"])
    sys.argv = ["cvgeo", *told["words"]]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        errors = "backslashreplace" if number == 2 else "surrogateescape"
        open_there = number in told["streams"]
        stream = open(number, "w" if number else "r", encoding="utf-8", errors=errors) if open_there else None  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _end() -> None:
    """Run the program and leave as the interpreter does, but for taking every module apart, which takes seconds."""
    from cvgeo.cli.app import run

    status = 0
    try:
        run()
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    if sys.argv[1] != "--serve":
        sys.exit(call(sys.argv[1], sys.argv[2:]))
    serve(sys.argv[2])
    _end()
