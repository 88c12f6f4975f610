"""What the shell calls as `workbook`: the command in a fork of a process that has imported all, else in this one."""

import os
import sys

from Codes.forks import command_client

COMMAND = "Codes.commands.cli"
COMPLETE = "_WORKBOOK_COMPLETE"  # click's variable
# those that take seconds of imports; the others are quick, or run for long
QUICK = "describe history models problems promote register rerun rollback run runs store".split()


def main() -> None:
    """Execute the command; where there was no template for it, let there be one for the next."""
    completes = os.environ.get(COMPLETE, "").endswith("_complete")  # a Tab of a shell
    is_quick = (completes or bool(set(sys.argv[1:2]) & set(QUICK))) and not command_client.is_off()
    code = command_client.execute(COMMAND) if is_quick else None
    if code is not None:
        command_client.end(code)
    from Codes.commands import cli

    try:
        cli.main()
    finally:
        if is_quick:
            command_client.start(os.environ)
