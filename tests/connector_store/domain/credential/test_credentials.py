"""A credential that never shows itself, whatever its kind."""

import copy
import pickle
import traceback

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.credentials import Credential, CredentialKind, invalid_key
from connector_store.domain.objects.models import Address, Target

TOKEN = "canary-0d1c7a"
CREDENTIAL = Credential(f"Bearer {TOKEN}".encode(), 7.0)


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r:>40}".format], ids=["repr", "str", "format", "padded"])
def test_a_credential_hides_in_text(show: object) -> None:
    assert callable(show)
    target = Target(
        key=ObjectKey("a", "b"),
        uid="",
        address=Address(host="h", port=1),
        credential=CREDENTIAL,
        secret_name="s",
        ca=None,
    )
    assert TOKEN not in show(CREDENTIAL)
    assert TOKEN not in show(target)


def test_a_credential_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="not pickled") as caught:
        pickle.dumps(CREDENTIAL)
    assert TOKEN not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(TypeError, match="not pickled"):
        copy.deepcopy(CREDENTIAL)


def test_two_are_equal_that_hold_the_same_and_are_of_one_kind() -> None:
    class Other(Credential):
        pass

    again = Credential(CREDENTIAL.authorization, None)
    assert again == CREDENTIAL
    assert len({again, CREDENTIAL}) == 1
    assert Credential(b"x", 7.0) != CREDENTIAL
    assert Other(CREDENTIAL.authorization, 7.0) != CREDENTIAL
    assert CREDENTIAL != TOKEN


def test_a_kind_lends_what_the_secret_holds_unless_it_says_otherwise() -> None:
    assert CredentialKind(name="k", secret_types=()).derive(CREDENTIAL, ()) is CREDENTIAL
    assert str(invalid_key("token", "is empty")) == 'key "token" is empty'
