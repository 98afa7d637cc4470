"""Values that the doors share; above all a Credential that never shows itself."""

import copy
import pickle
import traceback

import pytest

from connector_store.domain.models import Address, AuthType, ConnectorClass, Credential, Target
from connector_store.domain.names import ObjectKey

TOKEN = "canary-0d1c7a"
ONE = AuthType(name="bearerTokenAuth", secret_type="t")
TWO = AuthType(name="other", secret_type="u")


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r:>40}".format], ids=["repr", "str", "format", "padded"])
def test_a_credential_hides_in_text(show: object) -> None:
    assert callable(show)
    target = Target(
        key=ObjectKey("a", "b"),
        uid="",
        address=Address(host="h", port=1),
        credential=Credential(TOKEN),
        secret_name="s",
        ca=None,
    )
    assert TOKEN not in show(Credential(TOKEN))
    assert TOKEN not in show(target)


def test_a_credential_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="not pickled") as caught:
        pickle.dumps(Credential(TOKEN))
    assert TOKEN not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(TypeError, match="not pickled"):
        copy.deepcopy(Credential(TOKEN))


def test_a_credential_gives_the_header_and_compares_by_token() -> None:
    assert Credential(TOKEN).authorization == b"Bearer canary-0d1c7a"
    assert Credential(TOKEN) == Credential(TOKEN)
    assert Credential(TOKEN) != Credential("x")
    assert Credential(TOKEN) != TOKEN
    assert len({Credential(TOKEN), Credential(TOKEN)}) == 1


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


@pytest.mark.parametrize(
    ("types", "name", "expected"),
    [
        pytest.param((ONE,), None, ONE, id="without a name the only type"),
        pytest.param((ONE, TWO), None, None, id="without a name none of several"),
        pytest.param((ONE, TWO), "other", TWO, id="the one of that name"),
        pytest.param((ONE,), "missing", None, id="none of that name"),
    ],
)
def test_a_class_finds_its_auth_type(types: tuple[AuthType, ...], name: str | None, expected: AuthType | None) -> None:
    assert ConnectorClass(name="c", auth_types=types).auth_type(name) == expected
