"""The stages of a model, as aliases of MLflow's registry; known without importing MLflow, which takes seconds."""

from Codes.ground.errors import WorkbookError, nearest

ALIASES = ("staging", "production")


def check_alias(alias: str) -> None:
    """Refuse an `alias` that is none of ours."""
    if alias not in ALIASES:
        raise WorkbookError(
            f"there is no stage '{alias}'; there are {' and '.join(ALIASES)}.{nearest(alias, ALIASES)}"
        )
