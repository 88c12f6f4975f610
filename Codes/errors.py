"""A user's mistake, told in one line: what was given, what is allowed, what to do."""

import click


class WorkbookError(click.ClickException):
    """A mistake that the user can mend; click's commands print it without a traceback and exit 1."""

    def __str__(self):
        return self.message
