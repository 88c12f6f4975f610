"""The time left of long work is told by its pace, and its parts are told of where they take long."""

from Codes.ground import pace


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
