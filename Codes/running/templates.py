"""The warm templates of this user that are there now: which they are, and ending them."""

import contextlib

from Codes.running import rendezvous


def found(ask="status"):
    """[(process id, kernels)] of this user's templates, each asked to answer; `ask` 'retire' also lets each go.

    A template that retires takes no more kernels, and ends once those that it has have ended.
    """
    answers = [_asked(path, ask) for path in sorted(rendezvous.folder().glob("*.sock"))]
    return [
        (answer["template"], answer["kernels"])
        for answer in answers
        if answer and "template" in answer
    ]


def stop():
    """Let all templates go, forget failed ones, and remove what killed ones left; returns what `found` does."""
    told = found("retire")
    for path in rendezvous.folder().glob("*.*"):
        if path.suffix in (".sock", ".failed", ".log"):
            path.unlink(missing_ok=True)
    return told


def _asked(path, ask):
    with contextlib.suppress(OSError, ValueError):
        # one that warms up answers when it is warm
        if connection := rendezvous.connection_to(path, 60):
            with connection:
                rendezvous.check_peer(connection)
                rendezvous.send(connection, {"ask": ask})
                return rendezvous.receive(connection)[0]
    return None
