"""The time left of long work is told by its pace, and its parts are told of where they take long."""

import io

from tqdm import tqdm

from Codes.ground import pace
from Codes.testing.testbed import wait_for


def test_the_time_left_goes_by_what_was_done_since_the_beginning():
    of = pace.Pace(total=100, done=20)
    of.started -= 3600  # an hour for the 20 that follow
    assert of.left(40).startswith(", 3:00:0") and of.left(40).endswith(" left")
    assert of.left(90).startswith(", 08:3")
    assert of.left(20) == of.left(100) == ""  # nothing is known yet; nothing is left


def test_all_items_come_and_slow_ones_are_counted():
    lines = []
    assert list(pace.told("abc", "letters", lines.append, silence=0)) == ["a", "b", "c"]
    assert [line.partition(",")[0] for line in lines] == ["1 of 3 letters", "2 of 3 letters"]
    assert all(line.endswith(" left") for line in lines)
    assert list(pace.told("abc", "letters", lines.append)) == ["a", "b", "c"] and len(lines) == 2


def test_the_clock_of_a_bar_goes_on_while_an_item_takes_long_on_a_terminal_alone():
    class Stream(io.StringIO):
        """A stream that is a terminal, or is none."""

        def isatty(self):
            return self is terminal

    terminal, log = Stream(), Stream()
    for stream in (terminal, log):
        with tqdm(total=2, file=stream) as shown:
            pace.keep_ticking(shown, seconds=0.01)
            wait_for(lambda drawn=stream: drawn is log or drawn.getvalue().count("0/2") > 3)
    assert log.getvalue().count("0/2") <= 2
