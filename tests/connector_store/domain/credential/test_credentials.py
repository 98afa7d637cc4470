"""Base of credentials: secrecy, comparison, and the time from which the expiry is reported."""

import copy
import math
import pickle
import traceback

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.credentials import Credential, CredentialKind, InvalidKeyError
from connector_store.domain.objects.models import Address, Target

TOKEN = "canary-0d1c7a"
CREDENTIAL = Credential(f"Bearer {TOKEN}".encode(), 7.0)


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r:>40}".format], ids=["repr", "str", "format", "padded"])
def test_text_forms_hide_a_credential(show: object) -> None:
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


def test_credentials_of_one_kind_with_the_same_content_are_equal() -> None:
    class Other(Credential):
        pass

    same = Credential(CREDENTIAL.authorization, None)
    assert same == CREDENTIAL
    assert len({same, CREDENTIAL}) == 1
    assert Credential(b"x", 7.0) != CREDENTIAL
    assert Other(CREDENTIAL.authorization, 7.0) != CREDENTIAL
    assert CREDENTIAL != TOKEN


@pytest.mark.parametrize(
    ("issued_at", "expires_at", "warning_at"),
    [
        pytest.param(None, None, math.inf, id="no expiry"),
        pytest.param(400.0, None, math.inf, id="a time of issue without an expiry"),
        pytest.param(None, 1000.0, 900.0, id="no time of issue"),
        pytest.param(0.0, 1000.0, 900.0, id="a life of more than five times the option"),
        pytest.param(600.0, 1000.0, 920.0, id="the last fifth of a short life"),
        pytest.param(2000.0, 1000.0, 1000.0, id="an issue after the expiry"),
    ],
)
def test_the_expiry_is_reported_before_it_or_in_the_last_fifth_of_a_short_life(
    issued_at: float | None, expires_at: float | None, warning_at: float
) -> None:
    assert Credential(b"x", expires_at, issued_at).expiry_warning_at(100.0) == warning_at


def test_a_kind_uses_the_secrets_credential_by_default() -> None:
    assert CredentialKind(name="k", secret_types=()).derive(CREDENTIAL, ()) is CREDENTIAL
    assert str(InvalidKeyError("token", "is empty")) == 'key "token" is empty'
