"""The `workbook` command: a thin face over the helpers and over what runs notebooks."""

import errno
import os
from typing import Any

import click

from Codes.commands import (
    deploy_commands,
    model_commands,
    monitor_commands,
    notebook_commands,
    problem_commands,
    run_commands,
    store_commands,
    sweep_command,
    ui_command,
)
from Codes.ground import interrupts
from Codes.ground.errors import WorkbookError, first_line

FULL = (errno.ENOSPC, errno.EDQUOT)


class Commands(click.Group):
    """The commands; Ctrl-C, or a store that fails under one of them, is one line; SIGTERM ends one as Ctrl-C does."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with interrupts.ended_in_order(), interrupts.none_lost():
                return super().invoke(ctx)
        except KeyboardInterrupt:  # where the command did not tell more
            click.echo("interrupted", err=True)
            raise click.exceptions.Exit(130) from None
        except OSError as error:
            # a path that is none, a folder that may not be written, a full disk
            if not error.filename and error.errno not in FULL:
                raise
            told = [str(error.filename)] * bool(error.filename) + [str(error.strerror).lower()]
            raise WorkbookError(f"{': '.join(told)}.") from error
        except Exception as error:
            # asked by name: the import takes a second, and who never used MLflow meets none of its errors
            if not any(kind.__name__ == "MlflowException" for kind in type(error).__mro__):
                raise
            raise WorkbookError(
                f"the store failed: {first_line(error)}; give the same command again."
            ) from error


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80}
)
@click.version_option(package_name="experiment-workbook")
def main() -> None:
    """Plain notebooks that become complete, comparable MLflow runs."""
    if os.environ.get("NO_COLOR"):
        click.get_current_context().color = False


for each in [
    *notebook_commands.COMMANDS,
    sweep_command.sweep,
    *model_commands.COMMANDS,
    *deploy_commands.COMMANDS,
    *monitor_commands.COMMANDS,
    *run_commands.COMMANDS,
    *store_commands.COMMANDS,
    problem_commands.problems,
    ui_command.ui,
]:
    main.add_command(each)

if __name__ == "__main__":
    main()
