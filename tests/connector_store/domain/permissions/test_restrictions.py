from typing import Any

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.request_info import parse_request
from connector_store.domain.permissions.restrictions import (
    BUILTIN_GROUPS,
    MAX_CUSTOM_GROUPS,
    Restrictions,
    Treatment,
    includes_masked,
    parse_restrictions,
    restrict,
)

MASK = [{"resources": ["secrets"]}]
SECRETS = "/api/v1/namespaces/web/secrets"
MASKING = Restrictions(masks_secrets=True, custom_groups=frozenset({"x.io"}))


PLANNING = Restrictions(dry_run=True)
POD = "/api/v1/namespaces/web/pods/a"


def parsed(**fields: Any) -> Restrictions:
    return parse_restrictions(Fields(fields, "spec.permissions"))


def treat(method: str, target: str, restrictions: Restrictions = MASKING, *, upgrade: bool = False) -> Treatment | str:
    query = target.partition("?")[2]
    return restrict(restrictions, parse_request(method, target, ""), query, is_upgrade=upgrade)


def test_fields_are_parsed() -> None:
    assert parsed(dryRun=True) == PLANNING
    assert not parsed(dryRun=False)
    assert parsed(mask=MASK, customGroups=["x.io"]) == MASKING
    assert not parsed()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mask": []}, "spec.permissions.mask: has one entry"),
        ({"mask": [*MASK, *MASK]}, "spec.permissions.mask: has one entry"),
        ({"mask": [{"resources": ["pods"]}]}, "spec.permissions.mask[0].resources: is not [secrets]"),
        ({"mask": [{"digest": True}]}, "spec.permissions.mask[0].digest: is not a field"),
        ({"dryRun": "yes"}, "spec.permissions.dryRun: is neither true nor false"),
        ({"mask": "secrets"}, "spec.permissions.mask: "),
        ({"mask": MASK, "customGroups": ["X_"]}, "spec.permissions.customGroups[0]: is not the name of an API group"),
        ({"mask": MASK, "customGroups": ["x.io"] * (MAX_CUSTOM_GROUPS + 1)}, "spec.permissions.customGroups: has more"),
        ({"customGroups": ["x.io"]}, "spec.permissions.customGroups: has no effect without mask or dryRun"),
    ],
)
def test_invalid_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parsed(**fields)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", SECRETS), ("GET", f"{SECRETS}/a"), ("HEAD", f"{SECRETS}/a"), ("GET", "/api/v1/secrets?watch=1"),
        ("GET", "/api/v1/watch/namespaces/web/secrets/a"), ("GET", f"{SECRETS}?fieldSelector=metadata.name%3Da,type=b"),
        ("GET", f"{SECRETS}?fieldSelector=metadata.namespace!=a&labelSelector=a%3Db&limit=5"),
        ("GET", "/api/v2/secrets"),
    ],
)  # fmt: skip
def test_reads_of_secrets_are_masked(method: str, target: str) -> None:
    assert treat(method, target) is Treatment.MASK


@pytest.mark.parametrize(
    ("method", "target", "words"),
    [
        ("POST", SECRETS, "only get, list and watch"),
        ("PUT", f"{SECRETS}/a", "only get, list and watch"),
        ("PATCH", f"{SECRETS}/a", "only get, list and watch"),
        ("DELETE", f"{SECRETS}/a", "only get, list and watch"),
        ("DELETE", SECRETS, "only get, list and watch"),
        ("OPTIONS", SECRETS, "only get, list and watch"),
        ("GET", f"{SECRETS}/a/status", "only get, list and watch"),
        ("GET", "/api/v1/proxy/namespaces/web/secrets/a", "only get, list and watch"),
        ("GET", f"{SECRETS}?fieldSelector=data.password%3Da", "field selectors"),
        ("GET", f"{SECRETS}?field%53elector=metadata.name%3Da,immutable=b", "field selectors"),
        ("GET", f"{SECRETS}?fieldSelector=metadata.name%3Da&fieldSelector=data=b", "field selectors"),
        ("GET", f"{SECRETS}?fieldSelector=a", "field selectors"),
        ("GET", f"{SECRETS}/sh.helm.release.v1.a.v1", "HELM_DRIVER=configmap"),
        ("GET", f"{SECRETS}?labelSelector=name%3Da%2Cowner%3Dhelm", "HELM_DRIVER=configmap"),
        ("GET", "/apis/image.openshift.io/v1/namespaces/web/imagestreams/a/secrets", "customGroups"),
        ("GET", "/apis/metrics.k8s.io/v1beta1/pods", "customGroups"),
    ],
)  # fmt: skip
def test_other_requests_are_refused_with_the_next_step(method: str, target: str, words: str) -> None:
    refusal = treat(method, target)
    assert isinstance(refusal, str)
    assert words in refusal


def test_a_watch_by_an_upgrade_is_refused() -> None:
    assert isinstance(treat("GET", f"{SECRETS}?watch=1", upgrade=True), str)


@pytest.mark.parametrize(
    "target",
    ["/api/v1/pods", "/apis/apps/v1/deployments", "/apis/x.io/v1/secrets", "/apis", "/api/v1/namespaces/secrets"],
)
def test_other_objects_pass_unread(target: str) -> None:
    assert treat("GET", target) is Treatment.UNCHANGED


def test_without_a_mask_secrets_pass_unread() -> None:
    assert treat("GET", SECRETS, Restrictions()) is Treatment.UNCHANGED


@pytest.mark.parametrize(
    ("method", "target", "treatment"),
    [
        ("GET", POD, Treatment.UNCHANGED), ("GET", f"{POD}/log", Treatment.UNCHANGED),
        ("GET", "/apis/x.io/v1/things", Treatment.UNCHANGED), ("HEAD", "/version", Treatment.UNCHANGED),
        ("PUT", POD, Treatment.DRY_RUN), ("PATCH", f"{POD}/status", Treatment.DRY_RUN),
        ("DELETE", POD, Treatment.DRY_RUN), ("DELETE", "/api/v1/namespaces/web/pods", Treatment.DRY_RUN),
        ("POST", "/api/v1/namespaces/web/pods", Treatment.DRY_RUN), ("POST", f"{POD}/eviction", Treatment.DRY_RUN),
        ("POST", f"{POD}/binding", Treatment.DRY_RUN), ("PUT", f"{POD}/ephemeralcontainers", Treatment.DRY_RUN),
        ("POST", "/api/v1/namespaces/web/serviceaccounts/a/token", None), ("POST", f"{POD}/exec", None),
        ("GET", f"{POD}/exec", None), ("GET", f"{POD}/attach", None), ("GET", f"{POD}/portforward", None),
        ("GET", "/api/v1/nodes/n/proxy/pods", None), ("GET", "/api/v1/proxy/nodes/n", None),
        ("POST", f"{POD}/status", None), ("POST", "/version", None), ("OPTIONS", POD, None),
        ("PUT", "/apis/x.io/v1/things/a", None), ("DELETE", "/apis/apps.openshift.io/v1/deploymentconfigs", None),
    ],
)  # fmt: skip
def test_plan_mode_sends_dry_runs_and_refuses_what_has_none(
    method: str, target: str, treatment: Treatment | None
) -> None:
    result = treat(method, target, PLANNING)
    assert (None if isinstance(result, str) else result) is treatment
    if treatment is None:
        assert "only dry runs are allowed" in str(result)


def test_plan_mode_refuses_other_streams_and_allows_a_watch_by_an_upgrade() -> None:
    kubevirt = Restrictions(dry_run=True, custom_groups=frozenset({"subresources.kubevirt.io"}))
    console = "/apis/subresources.kubevirt.io/v1/namespaces/web/virtualmachineinstances/vm/console"
    assert isinstance(treat("GET", console, kubevirt, upgrade=True), str)
    assert treat("GET", "/api/v1/pods?watch=1", kubevirt, upgrade=True) is Treatment.UNCHANGED
    assert treat("PUT", "/apis/subresources.kubevirt.io/v1/x/a", kubevirt) is Treatment.DRY_RUN


def test_masks_and_plan_mode_work_together() -> None:
    both = Restrictions(masks_secrets=True, dry_run=True)
    assert treat("GET", SECRETS, both) is Treatment.MASK
    assert isinstance(treat("PATCH", f"{SECRETS}/a", both), str)
    assert treat("PATCH", POD, both) is Treatment.DRY_RUN
    assert isinstance(treat("GET", "/apis/x.io/v1/things", both), str)


@pytest.mark.parametrize(
    ("group", "resource", "expected"),
    [("", "secrets", True), ("*", "*", True), ("", "pods", False), ("x.io", "secrets", False)],
)
def test_a_further_right_can_include_masked_objects(group: str, resource: str, expected: bool) -> None:
    info = parse_request("GET", SECRETS, "")._replace(group=group, resource=resource)
    assert includes_masked(MASKING, info) is expected
    assert not includes_masked(Restrictions(), info)


def test_the_core_group_is_a_builtin_one() -> None:
    assert {"", "apps", "apiextensions.k8s.io"} < BUILTIN_GROUPS
