"""Volume attributes: those of the API page, and one error for all problems."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.kubeconfig.volume_request import (
    ATTRIBUTES,
    MAX_ATTRIBUTE,
    MAX_CONNECTORS,
    Pod,
    VolumeRequest,
    author_attributes,
    parse_pod,
    parse_volume,
)

POD = {
    "csi.storage.k8s.io/pod.name": "web-0",
    "csi.storage.k8s.io/pod.namespace": "team-a",
    "csi.storage.k8s.io/pod.uid": "uid-1",
    "csi.storage.k8s.io/serviceAccount.name": "default",
    "csi.storage.k8s.io/ephemeral": "true",
}
GOOD = POD | {"connector.name": "k8s", "configuration.names": "kubeconfig"}


def test_the_volume_of_the_api_page_is_parsed() -> None:
    assert parse_volume(GOOD) == VolumeRequest(
        pod=Pod(namespace="team-a", name="web-0", uid="uid-1", service_account="default"),
        connectors=(ObjectKey("team-a", "k8s"),),
        configurations=("kubeconfig",),
    )


def test_a_volume_written_for_alauda_is_parsed() -> None:
    request = parse_volume(
        POD
        | {"connector.name": "k8s", "connector.namespace": "", "token.expiration": "60m", "configuration.params": "{}"}
    )
    assert request.connectors == (ObjectKey("team-a", "k8s"),)
    assert request.configurations == ()
    assert request.token_expiration == 3600


@pytest.mark.parametrize(
    ("attributes", "expected_warnings"),
    [
        pytest.param({}, [], id="nothing"),
        pytest.param({"configuration.params": "{}"}, [], id="no parameters"),
        pytest.param({"csi.storage.k8s.io/serviceAccount.tokens": "{}"}, [], id="tokens of an older kubelet"),
        pytest.param({"configuration.params": '{"kubeconfig": {}}'}, ["configuration.params: "], id="parameters"),
        pytest.param(
            {"csi.storage.k8s.io/mine": "x", "configuration.params": '{"a": 1}'},
            ["configuration.params: ", "'csi.storage.k8s.io/mine': the prefix is kubelet's"],
            id="an attribute in kubelet's name",
        ),
        pytest.param(
            {f"csi.storage.k8s.io/x{n:05}": "" for n in range(90_000)},
            [*(f"'csi.storage.k8s.io/x{n:05}': the prefix" for n in range(5)), "89995 more with kubelet's prefix"],
            id="as many as a pod can have",
        ),
    ],
)
def test_attributes_without_effect_give_warnings(attributes: dict[str, str], expected_warnings: list[str]) -> None:
    warnings = parse_volume(GOOD | attributes).warnings
    assert len(warnings) == len(expected_warnings)
    for text, beginning in zip(warnings, expected_warnings, strict=True):
        assert text.startswith(beginning)


@pytest.mark.parametrize(
    ("attributes", "connectors"),
    [
        pytest.param({"connector.name": "a", "connector.namespace": "n"}, [("n", "a")], id="a namespace"),
        pytest.param({"connectors": "n/a,b"}, [("n", "a"), ("team-a", "b")], id="several"),
        pytest.param({"connectors": "n/a , b,", "connector.namespace": "m"}, [("n", "a"), ("m", "b")], id="spaces"),
        pytest.param({"connectors": "a", "connector.name": " "}, [("team-a", "a")], id="an empty name is absent"),
    ],
)
def test_connectors(attributes: dict[str, str], connectors: list[tuple[str, str]]) -> None:
    assert list(parse_volume(POD | attributes).connectors) == connectors


def test_files_are_excluded_and_configurations_are_unique() -> None:
    request = parse_volume(GOOD | {"configuration.names": "kubeconfig, !.env,kubeconfig-rotating,kubeconfig,!ca.cert"})
    assert request.configurations == ("kubeconfig", "kubeconfig-rotating")
    assert request.excluded_files == {".env", "ca.cert"}


def test_the_maximum_number_of_connectors_is_accepted() -> None:
    names = [f"c{number}" for number in range(MAX_CONNECTORS)]
    request = parse_volume(GOOD | {"connector.name": "", "connectors": ",".join(names)})
    assert [key.name for key in request.connectors] == names


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30m", 1800), ("1h30m", 5400), ("90s", 90), ("1.5h", 5400), ("500ms", 0.5)],
    ids=lambda value: str(value),
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_volume(GOOD | {"token.expiration": text}).token_expiration == seconds


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        pytest.param({"connector.name": ""}, "connector.name: is missing", id="no connector"),
        pytest.param({"connector.name": "../x"}, "connector.name: '../x' is not the name", id="dots"),
        pytest.param({"connector.name": "/etc"}, "connector.name: '/etc' is not the name", id="absolute"),
        pytest.param({"connector.name": "a/b"}, "for NAMESPACE/NAME use connectors", id="a namespace in the name"),
        pytest.param({"connector.name": "a" * 4096}, r"connector.name: 'a{80}\\u2026' is not the name", id="4 kB"),
        pytest.param({"connector.name": "a", "connectors": "b"}, "are both given", id="both"),
        pytest.param({"connector.namespace": "A_B"}, "connector.namespace: 'A_B'", id="no namespace"),
        pytest.param({"connector.name": "", "connectors": ","}, "connectors: names no Connector", id="only commas"),
        pytest.param({"connector.name": "", "connectors": "a,team-a/a"}, "is there twice", id="twice"),
        pytest.param({"connector.name": "", "connectors": "a/b/c"}, "'a/b/c' is neither", id="two slashes"),
        pytest.param(
            {"connector.name": "", "connectors": ",".join(f"c{n}" for n in range(33))}, "at most 32", id="too many"
        ),
        pytest.param({"configuration.names": "x"}, "'x' is not a configuration; use kubeconfig", id="configuration"),
        pytest.param({"configuration.names": "../kubeconfig"}, "is not a configuration", id="a path"),
        pytest.param({"configuration.names": "!x"}, "leaves out no built-in file", id="no built-in file"),
        pytest.param({"configuration.names": "kubeconfig-rotating,!context.token"}, "!context.token", id="required"),
        pytest.param({"configuration.names": "kubeconfig-direct,!ca.crt"}, "that kubeconfig-direct reads", id="the CA"),
        pytest.param({"configuration.names": "in-cluster,!ca.crt"}, "!ca.crt leaves out", id="required by in-cluster"),
        pytest.param({"configuration.params": "{"}, "configuration.params: is not a JSON object", id="no JSON"),
        pytest.param({"configuration.params": "[]"}, "configuration.params: is not a JSON object", id="a JSON list"),
        pytest.param({"token.expiration": "soon"}, "token.expiration: 'soon' is not a duration", id="no duration"),
        pytest.param({"token.expiration": "9" * 5000}, "is longer than 4096", id="too long"),
        pytest.param({"conector.name": "a"}, "'conector.name': is not an attribute; use connector.name", id="typo"),
        pytest.param({"csi.storage.k8s.io/ephemeral": "false"}, "use the driver in an inline volume", id="a PV"),
        pytest.param({"csi.storage.k8s.io/pod.uid": ""}, "podInfoOnMount: true", id="no pod"),
    ],
)
def test_a_problem_names_its_attribute_and_the_fix(attributes: dict[str, str], message: str) -> None:
    with pytest.raises(ParseError, match=message):
        parse_volume(GOOD | attributes)


def test_one_error_reports_all_problems() -> None:
    with pytest.raises(ParseError) as caught:
        parse_volume({"x": "1", "connector.name": "A", "configuration.names": "y", "token.expiration": "z"})
    for part in (
        "ephemeral",
        "pod.name",
        "pod.namespace",
        "pod.uid",
        "serviceAccount.name",
        "'x'",
        "'A'",
        "'y'",
        "'z'",
    ):
        assert part in str(caught.value)


def test_of_very_many_problems_a_few_are_reported_and_the_others_counted() -> None:
    with pytest.raises(ParseError) as caught:
        parse_volume(GOOD | {f"x{n:05}": "" for n in range(90_000)} | {"connector.name": "A"})
    message = str(caught.value)
    assert message.count("is not an attribute") == 5
    assert "; 89995 more are no attributes either; connector.name: 'A' is not" in message


@given(st.dictionaries(st.sampled_from([*ATTRIBUTES, "other", *POD]), st.text(max_size=MAX_ATTRIBUTE + 1)))
def test_every_context_is_a_request_or_a_parse_error(context: dict[str, str]) -> None:
    with contextlib.suppress(ParseError):
        parse_volume(GOOD | context)


def test_kubelets_attributes_are_not_the_authors() -> None:
    assert author_attributes(GOOD) == {"connector.name": "k8s", "configuration.names": "kubeconfig"}


def test_the_pod_is_parsed_even_if_other_attributes_are_invalid() -> None:
    assert parse_pod(POD | {"x": "y"}) == parse_volume(GOOD).pod
    assert parse_pod({"connector.name": "k8s"}) is None
