import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.pem import parse_certificates


def der(size: int) -> bytes:
    body = b"\x02" * size
    if size < 0x80:
        return bytes([0x30, size]) + body
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([0x30, 0x80 | len(length)]) + length + body


def pem(raw: bytes, label: str = "CERTIFICATE") -> bytes:
    return f"-----BEGIN {label}-----\n{base64.b64encode(raw).decode()}\n-----END {label}-----\n".encode()


def test_all_certificates_and_nothing_else_are_returned() -> None:
    text = b"# my CA\r\n" + pem(der(5)) + pem(b"key", "PRIVATE KEY") + b"subject=x\n" + pem(der(300))
    certificates = parse_certificates(text)
    assert [base64.b64decode(b"".join(certificate.split(b"\n")[1:-2])) for certificate in certificates] == [
        der(5),
        der(300),
    ]
    assert all(len(line) <= 64 for certificate in certificates for line in certificate.split(b"\n"))


def test_any_line_break_is_accepted() -> None:
    assert parse_certificates(pem(der(200)).replace(b"\n", b"\r\n")) == parse_certificates(pem(der(200)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(b"", "no whole PEM", id="empty"),
        pytest.param(der(5), "no whole PEM", id="DER"),
        pytest.param(pem(der(5), "TRUSTED CERTIFICATE"), "no whole PEM", id="OpenSSL's own form"),
        pytest.param(pem(der(5), "PRIVATE KEY"), "no whole PEM", id="a private key"),
        pytest.param(pem(der(5))[:-10], "no whole PEM", id="truncated"),
        pytest.param(pem(der(5)) + pem(der(5))[:40], "no whole PEM", id="the second truncated"),
        pytest.param(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----", "not base64", id="no base64"),
        pytest.param(pem(b""), "cut off or is none", id="an empty certificate"),
        pytest.param(pem(b"\x31\x01a"), "cut off or is none", id="another type"),
        pytest.param(pem(der(5)[:-1]), "cut off or is none", id="short of a byte"),
        pytest.param(pem(der(300) + b"a"), "cut off or is none", id="a byte too much"),
        pytest.param(pem(b"\x30\x80ab"), "cut off or is none", id="of indefinite length"),
        pytest.param(pem(b"\x30\x85\x00\x00\x00\x00\x01a"), "cut off or is none", id="a length of five bytes"),
    ],
)
def test_other_texts_are_refused(text: bytes, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        parse_certificates(text)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=4))
def test_every_list_of_certificates_parses_to_itself(sizes: list[int]) -> None:
    certificates = parse_certificates(b"".join(pem(der(size)) for size in sizes))
    assert parse_certificates(b"".join(certificates)) == certificates
