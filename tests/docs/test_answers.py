"""The reference has exactly the refusals of the source."""

import re
from typing import get_args

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.request_info import parse_request
from connector_store.domain.callers.access import Unavailable, UnavailableKind
from connector_store.domain.decision import denial
from connector_store.domain.objects.address_matching import parse_address
from connector_store.domain.objects.models import Target, Unusable
from connector_store.domain.permissions.evaluator import NotAllowed
from connector_store.domain.permissions.limits import Exceeded, LimitScope, Rate
from tests.docs.pages import REFERENCE, rows, section


def test_every_reason_of_a_denial_is_there_with_its_statuses() -> None:
    documented = {
        name.strip("`"): statuses(status) for name, status in rows(section("telemetry.md", "Denials")).items()
    }
    refusals: dict[str, set[int]] = {cause: set() for cause in get_args(denial.Cause)}
    for deny in every_denial():
        refusals[deny.cause].add(deny.status)
    assert documented == refusals


def test_every_kind_of_an_unavailable_check_is_there() -> None:
    documented = {name.strip("`") for name in rows(section("telemetry.md", "Unavailable checks"))}
    assert documented == set(get_args(UnavailableKind))


def test_every_status_of_a_refusal_is_among_the_answers() -> None:
    on_connect, _, remainder = (REFERENCE / "answers.md").read_text().partition("**Inside the tunnel**")
    inside, _, remainder = remainder.partition("**With direct access**")
    direct, _, itself = remainder.partition("**The proxy itself**")
    possible = {deny.status for deny in every_denial()}
    assert documented_statuses(on_connect) == possible - {401, 404, 421, 502, 504, 508}
    assert documented_statuses(inside) == possible - {404, 407, 421, 508}
    # In addition to those of a tunnel.
    assert documented_statuses(direct) == {401, 403, 404, 421, 502, 508}
    assert "404" in itself


def documented_statuses(text: str) -> set[int]:
    return {number for line in text.splitlines() if line.startswith("| ") for number in statuses(line.split(" | ")[-1])}


def statuses(text: str) -> set[int]:
    return {int(each) for each in re.findall(r"\b[45]\d\d\b", text)}


def every_denial() -> list[denial.Deny]:
    key = ObjectKey("team-a", "k8s")
    address = parse_address("https://target:6443")
    target = Target(key=key, uid="", address=address, credential=None, secret_name=None, ca=None)
    nothing = parse_request("GET", "/metrics", "")
    error = ParseError("Proxy-Authorization", "is absent")
    return [
        denial.not_synced(),
        *(denial.bad_credentials(error, on_connect=on_connect) for on_connect in (True, False)),
        *(denial.bad_token(on_connect=on_connect) for on_connect in (True, False)),
        denial.unavailable(Unavailable(reason="")),
        denial.access_denied(key),
        denial.unusable(Unusable(key=key, reason="SecretNotFound", message="")),
        denial.wrong_address(key, address),
        denial.path_outside(key, address),
        denial.path_traversal(key),
        denial.misdirected(),
        denial.wrong_host(key, address),
        denial.impersonation_header(b"impersonate-user"),
        denial.not_permitted(key, nothing, NotAllowed(nothing)),
        denial.cannot_impersonate(key, error),
        denial.locked(key, "stolen laptop"),
        denial.absolute_form(),
        denial.bad_request(""),
        denial.header_too_large(1),
        denial.too_many_connections(1),
        *(
            denial.limit_exceeded(key, Exceeded(Rate("sessions", count, "hour", 1), LimitScope("", "", 1), 1))
            for count in (0, 1)
        ),
        denial.audit_log_full(),
        denial.not_found(),
        denial.target_unreachable(target, ""),
        denial.target_denied(target, ""),
        denial.target_timeout(target, 1),
        denial.target_refused(target),
        denial.target_redirect(target),
        denial.target_response(target, ""),
        denial.loop(key),
        denial.cross_site(),
        denial.internal_error(),
    ]
