import os
import signal
import threading

import pytest

from posestill.engine.stopping import AskedToStop, Stop, Stopped


def test_a_signal_is_noted_once_training_goes_on_and_ends_the_run_at_once_before_that():
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with Stop() as stop:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        assert not stop.asked
        stop.check()
        stop.gently = True
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
        with pytest.raises(AskedToStop):
            stop.check()
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("alone", [True, False])
def test_a_second_ctrl_c_ends_a_single_process_at_once(alone):
    with Stop() as stop:
        stop.gently, stop.alone = True, alone
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)  # what started the process may hand this on
        if alone:
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        else:
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked


def test_in_another_thread_signals_stay_as_they_are():
    before, seen = signal.getsignal(signal.SIGINT), []

    def enter():
        with Stop():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]


def test_whoever_waits_for_ctrl_c_is_told_of_a_stop():
    assert issubclass(Stopped, KeyboardInterrupt)
