"""Ctrl-C at any moment."""

import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from kws.terminal.interrupts import Interrupts


@pytest.fixture(autouse=True)
def nothing_changes() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT), sys.unraisablehook
    yield
    assert (signal.getsignal(signal.SIGINT), sys.unraisablehook) == before


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


class CtrlCWhenDeleted:
    def __del__(self) -> None:
        ctrl_c()


def test_it_is_raised_at_once():
    with pytest.raises(KeyboardInterrupt), Interrupts():
        ctrl_c()
        pytest.fail("Ctrl-C was not raised")


def test_an_interrupt_in_a_destructor_is_raised_by_the_next_check(capsys):
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        interrupts.check()
        CtrlCWhenDeleted()
        reached = True
        interrupts.check()
        pytest.fail("Ctrl-C was lost")
    assert reached
    assert capsys.readouterr() == ("", "")


def test_an_interrupt_in_a_destructor_is_raised_at_the_end():
    with pytest.raises(KeyboardInterrupt), Interrupts():
        CtrlCWhenDeleted()


def test_other_errors_in_destructors_are_reported(monkeypatch):
    reported_types = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda dropped: reported_types.append(dropped.exc_type)
    )

    class Broken:
        def __del__(self) -> None:
            raise ValueError

    with Interrupts():
        Broken()
    assert reported_types == [ValueError]


def test_while_graceful_the_first_waits_and_the_second_does_not():
    waits = []
    with (
        pytest.raises(KeyboardInterrupt),
        Interrupts(lambda: waits.append("announced")) as interrupts,
    ):
        interrupts.graceful = True
        ctrl_c()
        assert waits == ["announced"]
        ctrl_c()
        pytest.fail("the second Ctrl-C waited, too")
    assert waits == ["announced"]


def test_while_graceful_a_check_ends_the_wait():
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        interrupts.graceful = True
        ctrl_c()
        interrupts.check()
        pytest.fail("the check did not raise")


def test_an_error_of_the_work_stays_what_it_is():
    with pytest.raises(ValueError, match="of the work"), Interrupts() as interrupts:
        interrupts.graceful = True
        ctrl_c()
        raise ValueError("of the work")


def test_a_program_started_to_ignore_it_ignores_it():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            ctrl_c()
            interrupts.check()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_leave_the_signal_alone():
    handlers = []

    def work() -> None:
        with Interrupts() as interrupts:
            handlers.append(signal.getsignal(signal.SIGINT))
            interrupts.check()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]
