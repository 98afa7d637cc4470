"""Values that the programs share."""

from dataclasses import replace

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.models import Address, Connector, SecretProblem


@pytest.mark.parametrize(
    ("address", "authority", "text"),
    [
        pytest.param(Address(host="h", port=443), "h:443", "https://h:443", id="a name"),
        pytest.param(Address(host="::1", port=6443), "[::1]:6443", "https://[::1]:6443", id="IPv6 in brackets"),
        pytest.param(Address(host="h", port=1, prefix="/k/g"), "h:1", "https://h:1/k/g", id="a path prefix"),
    ],
)
def test_an_address_has_authority_and_text(address: Address, authority: str, text: str) -> None:
    assert (address.authority, str(address)) == (authority, text)


def test_a_connector_references_secrets_of_its_own_namespace() -> None:
    connector = Connector(key=ObjectKey("a", "b"), class_name="k8s", address=Address(host="h", port=1))
    assert connector.secret_keys == frozenset()
    with_secrets = replace(connector, secret_name="s", ca_secret_name="ca")
    assert with_secrets.secret_keys == {ObjectKey("a", "s"), ObjectKey("a", "ca")}


def test_messages_quote_only_the_text_of_a_secrets_problem() -> None:
    assert f"{SecretProblem('ca.crt', '', 'data[ca.crt]: is not PEM')}" == "data[ca.crt]: is not PEM"
