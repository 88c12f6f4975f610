"""How far a sweep is: a live bar on a terminal, plain lines elsewhere."""

import shutil
import time
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from Codes.ground.pace import SILENCE, Pace

if TYPE_CHECKING:
    from Codes.sweeps.plan import Trial


class Progress:
    """Shows done, running, failed, best and the time left; `live` on a terminal."""

    def __init__(self, live: bool) -> None:
        self.live = live
        self.line: tqdm | None = None
        self.facts: dict[str, Any] = {}
        self.pace: Pace | None = None
        self.said = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line of its own."""
        self.said = time.monotonic()
        if self.line:
            self.line.clear()
        click.echo(text, err=True)
        if self.line:
            self.line.refresh()

    def trial(self, trial: "Trial", told: str) -> None:
        """Tell how a trial has ended."""
        how = "" if trial.state == "FINISHED" else f"{trial.state}: "
        reused = " (known)" if trial.reused else ""
        if not self.live or trial.state == "FAILED":
            self.facts["done"] = self.facts.get("done", 0) + 1
            count = f"[{self.facts['done']}/{self.facts.get('total', '?')}]"
            self.say(f"{count} {trial.typed()}: {how}{told}{reused}{self._left()}")

    def show(self, done: int, total: int, running: int, failed: int, best: str | None) -> None:
        """Show the counts as they are now."""
        self.pace = self.pace or Pace(total, done)
        now = {"done": done, "total": total, "running": running, "failed": failed, "best": best}
        if not self.live:
            if time.monotonic() - self.said > SILENCE:
                self.say(
                    f"[{done}/{total}] running {running}, failed {failed}, best {best or '-'}{self._left()}"
                )
        elif now != self.facts:
            width, height = _room()
            line = self.line or tqdm(
                total=total, initial=done, unit="trial", leave=False, ncols=width, nrows=height
            )
            self.line, line.ncols, line.total = line, width, total
            line.set_postfix_str(
                f"running {running}, failed {failed}, best {best or '-'}", refresh=False
            )
            line.update(done - line.n)
            line.refresh()
        self.facts = now

    def _left(self) -> str:
        """The time left, as far as it can be told from the pace so far."""
        return self.pace.left(self.facts["done"]) if self.pace else ""

    def close(self) -> None:
        """Take the bar away."""
        if self.line:
            self.line.close()
            self.line = None


def _room() -> tuple[int, int]:
    """The terminal's width and height now; where one tells none, tqdm would show nothing."""
    return shutil.get_terminal_size()
