"""Diagnosis by a list of checks: each is ok, failed with the next step, or skipped with the reason."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

StepResult = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Result of one check. `next_step` is what to do after a failure."""

    check: str
    result: StepResult
    detail: str
    next_step: str = ""


class CheckFailedError(Exception):
    """The check found a problem. `next_step` is an imperative."""

    def __init__(self, detail: str, next_step: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.next_step = next_step


class CheckSkippedError(Exception):
    """The check does not apply, or its answer cannot be read. This is not a problem by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck[T]:
    """One row of a diagnosis. It runs if all checks in `needs` are ok or do not apply.

    `run` returns a detail for the user. It raises CheckFailedError or CheckSkippedError.
    """

    name: str
    run: Callable[[T], Awaitable[str]]
    needs: tuple[str, ...] = ()


async def diagnose[T](checks: Sequence[HealthCheck[T]], subject: T) -> list[Step]:
    """Run the checks in order. A check whose need failed is skipped, and so are those that need it."""
    steps: list[Step] = []
    blocked: dict[str, str] = {}
    for check in checks:
        cause = next((blocked[name] for name in check.needs if name in blocked), None)
        if cause is not None:
            steps.append(Step(check=check.name, result="skipped", detail=f'because "{cause}" failed'))
            blocked[check.name] = cause
            continue
        step = await _run(check, subject)
        steps.append(step)
        if step.result == "failed":
            blocked[check.name] = check.name
    return steps


async def _run[T](check: HealthCheck[T], subject: T) -> Step:
    try:
        return Step(check=check.name, result="ok", detail=await check.run(subject))
    except CheckFailedError as error:
        return Step(check=check.name, result="failed", detail=error.detail, next_step=error.next_step)
    except CheckSkippedError as error:
        return Step(check=check.name, result="skipped", detail=str(error))
