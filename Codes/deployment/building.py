"""An engine that turns a build context into an image: docker, podman or buildah, whichever is there and answers."""

import contextlib
import shutil
import subprocess
from dataclasses import dataclass

from Codes.deployment import ENGINES
from Codes.deployment.context import Context
from Codes.ground.errors import WorkbookError

PATIENCE = 10.0  # seconds that an engine has to clear away
RUNNERS = ENGINES[:2]  # which run an image, too


@dataclass(frozen=True)
class Engine:
    """An engine by its command's name."""

    name: str

    def build(self, context: Context) -> str:
        """Build the image of the `context` under its tag; the image's id, a digest of what is in it."""
        # docker takes the times of files from the context, the others can be told
        still = [] if self.name == "docker" else ["--timestamp", "0"]
        command = [self.name, "build", *still, "--tag", context.tag, str(context.folder)]
        if _to_its_end(command):
            raise WorkbookError(
                f"{self.name} could not build {context.tag}, see above; its folder: {context.folder}."
            )
        return self.ask("images", "--quiet", "--no-trunc", context.tag).splitlines()[0]

    def ask(self, *words: str) -> str:
        """What the engine's command answers to these `words`; a WorkbookError where it fails."""
        done = subprocess.run([self.name, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no word"]
            raise WorkbookError(f"{self.name} {words[0]}: {reason[0][:300]}")
        return done.stdout.strip()


def _to_its_end(command: list[str]) -> int:
    """The exit status of the `command`; an interruption lets it clear away what it has begun."""
    with subprocess.Popen(command) as process:
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            process.kill()
            raise


def answers(name: str) -> bool:
    """Whether the engine `name` is there and does its work."""
    if not shutil.which(name):
        return False
    try:
        done = subprocess.run([name, "info"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def engine(name: str = "", among: tuple[str, ...] = ENGINES) -> Engine | None:
    """The Engine `name`, or the first of `among` that answers; None where none does."""
    if name and not answers(name):
        raise WorkbookError(f"{name} is not there, or does not answer: `{name} info` says why.")
    found = name or next(filter(answers, among), None)
    return Engine(found) if found else None
