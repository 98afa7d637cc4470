"""The example of docs/credential-kinds.md works, and keeps what the page promises."""

import re
from types import SimpleNamespace

import pytest

from connector_store.domain.credential.credentials import InvalidKeyError
from tests.docs.pages import DOCS

PAGE = (DOCS / "credential-kinds.md").read_text()


@pytest.fixture(scope="module")
def example() -> SimpleNamespace:
    [code] = re.findall(r"    ```python\n(.*?)    ```", PAGE, re.DOTALL)
    names: dict[str, object] = {"__name__": "api_key"}
    exec("\n".join(line.removeprefix("    ") for line in code.splitlines()), names)  # noqa: S102 - our own page
    return SimpleNamespace(**names)


def test_the_keys_become_one_bearer_token(example: SimpleNamespace) -> None:
    [secret_type] = example.KIND.secret_types
    credential = secret_type.read({"access-key": b"token-abc\n", "secret-key": b"canary"})
    assert credential.authorization == b"Bearer token-abc:canary"
    assert "canary" not in repr(credential)


@pytest.mark.parametrize("value", [b"", b"can:ary", b"can ary", b"can\xffary"])
def test_an_error_names_the_key_and_not_the_value(example: SimpleNamespace, value: bytes) -> None:
    with pytest.raises(InvalidKeyError, match='key "secret-key" is not a key') as error:
        example.KIND.secret_types[0].read({"access-key": b"a", "secret-key": value})
    assert "ary" not in str(error.value)


NEW_FILES = {
    "connector_store/domain/credential/api_key.py",
    "tests/connector_store/domain/credential/test_api_key.py",
}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([a-z_/]+\.py)`", PAGE)) - NEW_FILES))
def test_the_files_of_the_page_exist(name: str) -> None:
    root = DOCS.parent
    assert (root / name).exists() or (root / "connector_store/domain/credential" / name).exists()
