"""Ctrl-C counts, also where it comes amid a destructor."""

import os
import signal
import subprocess
import sys
import time

import pytest

from Codes.ground import interrupts
from Codes.running import interruption


class Interrupted:
    """Its destructor is where the signal comes."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        os.kill(os.getpid(), self.number)
        time.sleep(0)


def wait():
    """Be interrupted, or fail."""
    time.sleep(60)
    raise AssertionError("nothing came")


@pytest.mark.parametrize(
    "number, raised", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_amid_a_destructor_ends_a_run(number, raised, capfd):
    with pytest.raises(raised), interruption.signals() as signals:
        Interrupted(number)
        wait()
    assert signals.came == [number]
    assert capfd.readouterr().err.count("ending, and recording") == 1


def test_ctrl_c_amid_several_destructors_ends_a_command():
    with pytest.raises(KeyboardInterrupt), interrupts.none_lost():
        Interrupted(signal.SIGINT)
        Interrupted(signal.SIGINT)
        wait()
    time.sleep(2 * interrupts.SOON)  # nothing more comes


def test_other_errors_of_a_destructor_are_shown_as_ever():
    code = """
from Codes.ground import interrupts
class Broken:
    def __del__(self):
        raise ValueError("broken")
with interrupts.none_lost():
    Broken()
print("goes on")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ValueError: broken" in done.stderr and done.stdout == "goes on\n"
