"""The warm templates of this user that are there now: which they are, and ending them."""

import contextlib

from Codes.warm import channel


def found(ask="status"):
    """[(process id, kernels)] of this user's templates, each asked to answer; `ask` 'retire' also lets each go.

    A template that retires takes no more kernels, and ends once those that it has have ended.
    """
    answers = [_asked(path, ask) for path in sorted(channel.folder().glob("*.sock"))]
    return [
        (answer["template"], answer["kernels"])
        for answer in answers
        if answer and "template" in answer
    ]


def stop():
    """Let all templates go, forget failed ones, and remove what killed ones left; returns what `found` does."""
    told = found("retire")
    for path in channel.folder().glob("*.*"):
        if path.suffix in (".sock", ".failed", ".log"):
            path.unlink(missing_ok=True)
    return told


def _asked(path, ask):
    with contextlib.suppress(OSError, ValueError):
        # one that warms up answers when it is warm
        if connection := channel.connection_to(path, 60):
            with connection:
                channel.check_peer(connection)
                channel.send(connection, {"ask": ask})
                return channel.receive(connection)[0]
    return None
