"""How far a sweep is: a live bar on a terminal, plain lines elsewhere."""

import shutil
import time

import click
from tqdm import tqdm

SILENCE = 30.0  # seconds after which a line tells that it still works


class Progress:
    """Shows done, running, failed, best and the time left; `live` on a terminal."""

    def __init__(self, live):
        self.live, self.line, self.facts = live, None, {}
        self.started, self.first, self.said = time.monotonic(), None, time.monotonic()

    def say(self, text):
        """Print a line of its own."""
        self.said = time.monotonic()
        if self.line:
            self.line.clear()
        click.echo(text, err=True)
        if self.line:
            self.line.refresh()

    def trial(self, trial, told):
        """Tell how a trial has ended."""
        how = "" if trial.state == "FINISHED" else f"{trial.state}: "
        known = " (known)" if trial.reused else ""
        if not self.live or trial.state == "FAILED":
            self.facts["done"] = self.facts.get("done", 0) + 1
            count = f"[{self.facts['done']}/{self.facts.get('total', '?')}]"
            self.say(f"{count} {trial.typed()}: {how}{told}{known}{self._left()}")

    def show(self, done, total, running, failed, best):
        """Show the counts as they are now."""
        if self.first is None:
            self.first = done
        now = {"done": done, "total": total, "running": running, "failed": failed, "best": best}
        if not self.live:
            if time.monotonic() - self.said > SILENCE:
                self.say(
                    f"[{done}/{total}] running {running}, failed {failed}, best {best or '-'}{self._left()}"
                )
        elif now != self.facts:
            if self.line is None:
                self.line = tqdm(total=total, initial=done, unit="trial", leave=False, **_room())
            self.line.ncols = _room()["ncols"]
            self.line.total = total
            self.line.set_postfix_str(
                f"running {running}, failed {failed}, best {best or '-'}", refresh=False
            )
            self.line.update(done - self.line.n)
            self.line.refresh()
        self.facts = now

    def _left(self):
        """The time left, as far as it can be told from the pace so far."""
        done, total = self.facts.get("done", 0), self.facts.get("total", 0)
        since = done - (self.first or 0)
        if since < 1 or total <= done:
            return ""
        seconds = (time.monotonic() - self.started) / since * (total - done)
        return f", {tqdm.format_interval(seconds)} left"

    def close(self):
        """Take the bar away."""
        if self.line:
            self.line.close()
            self.line = None


def _room():
    """The terminal's size now; where one tells none, tqdm would show nothing."""
    width, height = shutil.get_terminal_size()
    return {"ncols": width, "nrows": height}
