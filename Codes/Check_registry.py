"""The registry: versions of a model, staging and production, a gate between them, and the way back.

    python Codes/Check_registry.py

Expected output:

    registered  breast_cancer version 1, breast_cancer version 2
    staging     breast_cancer version 1
    production  breast_cancer version 1
    the gate    refuses breast_cancer version 2: better than the baseline, better than the one in production
    overridden  production is version 2
    rollback    production is version 1 again, instead of 2
    history     promote done, promote done, promote refused, promote done, rollback done
"""

from Codes.model_registry import promotion, registry
from Codes.testing import samples

NAME = "breast_cancer"


def report(_):
    """The lines of the expected output."""
    good, bad = (promotion.register(samples.train(NAME, model)) for model in ("linear", "dummy"))
    yield f"registered  {good}, {bad}"
    yield f"staging     {promotion.promote(NAME, 'staging', good.number)[0]}"
    yield f"production  {promotion.promote(NAME, 'production')[0]}"
    try:
        promotion.promote(NAME, "production", bad.number)
    except promotion.Refused as refused:
        failed = [check.name for check in refused.report.checks if not check.passed]
        yield f"the gate    refuses {bad}: {', '.join(failed)}"
    promotion.promote(NAME, "production", bad.number, override="a sample of a mistake")
    yield f"overridden  production is version {registry.pointed(NAME, 'production')}"
    before, after = promotion.rollback(NAME)
    yield f"rollback    production is version {after} again, instead of {before}"
    steps = [f"{t.kind} {t.outcome.partition(':')[0]}" for t in registry.settled(NAME)]
    yield f"history     {', '.join(steps)}"


if __name__ == "__main__":
    samples.check(report, __doc__)
