from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from cvgeo.report import Reporter
from cvgeo.training.stopping import DeferredStop


class Stopped(BaseException):
    pass


def _stop(number: int, frame: object) -> None:
    raise Stopped(number)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    old = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in old.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_it_may_take_effect(number: int) -> None:
    done = []
    with pytest.raises(Stopped), DeferredStop(Reporter()) as stop:
        stop.leave()
        os.kill(os.getpid(), number)
        done.append("batch")
        assert stop.asked == number
        stop.leave()
        done.append("never")
    assert done == ["batch"]
    assert signal.getsignal(number) is _stop


def test_a_signal_takes_effect_at_the_end_at_the_latest() -> None:
    with pytest.raises(Stopped), DeferredStop(Reporter()):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_second_signal_takes_effect_at_once() -> None:
    done = []
    with pytest.raises(Stopped), DeferredStop(Reporter()):
        os.kill(os.getpid(), signal.SIGINT)
        done.append("first")
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("never")
    assert done == ["first"]


def test_an_error_goes_before_a_noted_signal() -> None:
    with pytest.raises(ZeroDivisionError), DeferredStop(Reporter()):
        os.kill(os.getpid(), signal.SIGTERM)
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) is _stop


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with DeferredStop(Reporter()) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked is None
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_other_threads_train_without_handlers() -> None:
    asked = []

    def work() -> None:
        with DeferredStop(Reporter()) as stop:
            asked.append(stop.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert asked == [None]
    assert signal.getsignal(signal.SIGINT) is _stop
