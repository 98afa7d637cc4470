"""Measure the time that `spec.permissions` add to a decision: a role of 50 rules, whose last one allows the request."""

import time
from dataclasses import replace
from typing import Final

from connector_store.domain.base.headers import Headers
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Granted, Identity
from connector_store.domain.decision.decide import ProxyLimits, Question, decide
from connector_store.domain.decision.denial import Deny
from connector_store.domain.objects.models import Address, Target
from connector_store.domain.permissions.evaluator import PermissionEvaluator
from connector_store.domain.permissions.rbac import BoundRole, PolicyRule

DECISION: Final = "permission decision"
ROLE_COST: Final = "a role of 50 rules, µs more"
"""Name of the figure: additional time of a decision with permissions."""
PLAIN_COST: Final = "without permissions, µs"
RULES: Final = 50
REPETITIONS: Final = 2_000
ROUNDS: Final = 15

_KEY: Final = ObjectKey("bench", "target")
_PLAIN: Final = Target(
    key=_KEY, uid="1", address=Address(host="target", port=6443), credential=None, secret_name=None, ca=None
)
_GRANTED: Final = Granted(identity=Identity(user="system:serviceaccount:bench:job"))


def measure_decision() -> dict[str, float]:
    """Return the time of the fastest of several rounds, because disturbances only add time. The targets take turns."""
    limited = replace(_PLAIN, permissions=PermissionEvaluator((_role(),), ()))
    best = {"plain": float("inf"), "limited": float("inf")}
    for _ in range(ROUNDS):
        for name, target in (("plain", _PLAIN), ("limited", limited)):
            best[name] = min(best[name], _measure_target(target))
    return {ROLE_COST: max(0.0, best["limited"] - best["plain"]), PLAIN_COST: best["plain"]}


def _role() -> BoundRole:
    rules = tuple(
        PolicyRule(verbs=("get", "list", "watch"), api_groups=(f"group-{number}.example.com",), resources=("things",))
        for number in range(RULES - 1)
    )
    last = PolicyRule(verbs=("get", "list"), api_groups=("",), resources=("pods",))
    return BoundRole(label="bench", rules=(*rules, last))


def _measure_target(target: Target) -> float:
    """Return the µs of one decision. Each request is for another Pod, so that a cache of decisions would not help."""
    fields, rules = Headers([(b"Host", b"target:6443"), (b"User-Agent", b"bench")]), ProxyLimits()
    paths = [b"/api/v1/namespaces/bench/pods/pod-%d" % number for number in range(REPETITIONS)]
    started_at = time.thread_time()
    for path in paths:
        question = Question(
            is_connect=False,
            key=_KEY,
            authority="target:6443",
            token="t",  # noqa: S106 - a made-up token
            method=b"GET",
            target=path,
            headers=fields,
            audit_log_full=False,
            synced=True,
            policy=rules,
            access=_GRANTED,
            resolution=target,
        )
        outcome = decide(question)
    seconds = time.thread_time() - started_at
    if isinstance(outcome, Deny):
        raise RuntimeError(f"the role does not allow the request: {outcome.message}")
    return seconds / REPETITIONS * 1e6
