"""A diagnosis runs its checks in order, and skips those that need one that failed."""

from collections.abc import Awaitable, Callable

from connectorctl.diagnosis import CheckFailedError, CheckSkippedError, HealthCheck, Step, diagnose


def check(name: str, outcome: str | Exception, *needs: str) -> HealthCheck[list[str]]:
    async def run(calls: list[str]) -> str:
        calls.append(name)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    runs: Callable[[list[str]], Awaitable[str]] = run
    return HealthCheck(name=name, run=runs, needs=needs)


async def test_a_failure_skips_all_checks_that_depend_on_it() -> None:
    calls: list[str] = []
    checks = (
        check("file", "found"),
        check("proxy", CheckFailedError("refused", "start it"), "file"),
        check("target", "up", "file", "proxy"),
        check("rules", "all", "target"),
        check("token", CheckSkippedError("opaque"), "file"),
        check("expiry", "late", "token"),
    )
    steps = await diagnose(checks, calls)
    assert calls == ["file", "proxy", "token", "expiry"]
    assert steps == [
        Step(check="file", result="ok", detail="found"),
        Step(check="proxy", result="failed", detail="refused", next_step="start it"),
        Step(check="target", result="skipped", detail='because "proxy" failed'),
        Step(check="rules", result="skipped", detail='because "proxy" failed'),
        Step(check="token", result="skipped", detail="opaque"),
        Step(check="expiry", result="ok", detail="late"),
    ]
