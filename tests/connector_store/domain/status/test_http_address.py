import base64

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.status.http_address import HttpAddress, parse_http_address


def raw(**address: object) -> dict[str, object]:
    return {"status": {"proxy": {"httpAddress": address}}}


def test_the_published_address_is_parsed() -> None:
    published = raw(url="http://c-k8s.a.svc.cluster.local", CACerts=base64.b64encode(b"PEM").decode(), audience="p")
    assert parse_http_address(published) == HttpAddress(url="http://c-k8s.a.svc.cluster.local", ca=b"PEM", audience="p")


@pytest.mark.parametrize("connector", [{}, {"status": None}, raw(), raw(url="http://x"), raw(CACerts="YQ==")])
def test_an_incomplete_address_counts_as_absent(connector: dict[str, object]) -> None:
    assert parse_http_address(connector) is None


@pytest.mark.parametrize("certificates", ["!", "\u00e9", 5])
def test_invalid_certificates_are_reported(certificates: object) -> None:
    with pytest.raises(ParseError) as caught:
        parse_http_address(raw(url="http://x", CACerts=certificates))
    assert caught.value.path == "status.proxy.httpAddress.CACerts"
