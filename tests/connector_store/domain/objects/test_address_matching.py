import ipaddress
import posixpath
from itertools import pairwise
from urllib.parse import unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from connector_store.domain.base.errors import ParseError
from connector_store.domain.objects.address_matching import (
    authority_matches,
    host_matches,
    host_of_authority,
    host_of_header,
    is_path_within,
    is_traversal_free,
    parse_address,
)
from connector_store.domain.objects.models import Address

PLAIN = Address(host="k8s.example", port=6443)
PREFIXED = Address(host="k8s.example", port=6443, prefix="/kubernetes/global")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("https://192.168.1.100:6443", Address(host="192.168.1.100", port=6443)),
        ("https://k8s.example", Address(host="k8s.example", port=443)),
        ("HTTPS://K8S.Example:6443/", PLAIN),
        ("https://k8s.example.:6443", PLAIN),
        ("https://k8s.example:6443/kubernetes/global", PREFIXED),
        ("https://k8s.example:6443/kubernetes/global//", PREFIXED),
        ("https://my_host-1:1/a~b/$c", Address(host="my_host-1", port=1, prefix="/a~b/$c")),
        ("https://[2001:DB8:0:0::1]:65535", Address(host="2001:db8::1", port=65535)),
        ("https://[::1]", Address(host="::1", port=443)),
        ("https://xn--bcher-kva.example", Address(host="xn--bcher-kva.example", port=443)),
        ("https://h/.well/..k8s/a.", Address(host="h", port=443, prefix="/.well/..k8s/a.")),
        ("https://h/-._~!$&'()*+,=:@", Address(host="h", port=443, prefix="/-._~!$&'()*+,=:@")),
        ("https://_a_.b._c_", Address(host="_a_.b._c_", port=443)),
        ("https://a.9b", Address(host="a.9b", port=443)),
        (
            "https://" + ".".join(["a" * 63] * 3 + ["a" * 61]),
            Address(host=".".join(["a" * 63] * 3 + ["a" * 61]), port=443),
        ),
    ],
)
def test_addresses_are_normalised(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "not an https URL", id="empty"),
        pytest.param("k8s.example:6443", "not an https URL", id="no scheme"),
        pytest.param("http://k8s.example", "not an https URL", id="a token would go in clear"),
        pytest.param(" https://k8s.example", "not an https URL", id="a space before"),
        pytest.param("https://", "no host", id="no host"),
        pytest.param("https://:6443", "no host", id="a port alone"),
        pytest.param("https://.", "no host", id="a dot alone"),
        pytest.param("https://user@k8s.example", "user information", id="a user"),
        pytest.param("https://a:b@k8s.example", "user information", id="a user with password"),
        pytest.param("https://k8s.example?", "query", id="an empty query"),
        pytest.param("https://k8s.example/a?b=c", "query", id="a query"),
        pytest.param("https://k8s.example/#", "fragment", id="a fragment"),
        pytest.param("https://k8s.example:0", "port", id="port 0"),
        pytest.param("https://k8s.example:65536", "port", id="a port too high"),
        pytest.param("https://k8s.example:", "port", id="a colon without port"),
        pytest.param("https://k8s.example:+80", "port", id="a sign in the port"),
        pytest.param("https://k8s.example:\uff18\uff10", "port", id="a port in other digits"),
        pytest.param("https://k8s.example:000443", "port", id="a port of six digits"),
        pytest.param("https://k8s.example:00000000443", "port", id="a port of many digits"),
        pytest.param("https://::1", "host name", id="IPv6 without brackets"),
        pytest.param("https://[::1", "host name", id="half a bracket"),
        pytest.param("https://[fe80::1%25eth0]", "IP address", id="an IPv6 zone"),
        pytest.param("https://[fe80::1%1]", "IP address", id="an IPv6 zone that is a number"),
        pytest.param("https://a::1]", "host name", id="the other half of a bracket"),
        pytest.param("https://[127.0.0.1]", "IP address", id="IPv4 in brackets"),
        pytest.param("https://256.1.1.1", "IP address", id="no IPv4 address"),
        pytest.param("https://127.1", "IP address", id="a short IPv4 address"),
        pytest.param("https://2130706433", "IP address", id="an IPv4 address as one number"),
        pytest.param("https://0x7f000001", "IP address", id="an IPv4 address in hex"),
        pytest.param("https://a.0x", "IP address", id="a name that resolvers read as 0"),
        pytest.param("https://a.0x7f.", "IP address", id="a name that resolvers read as a number"),
        pytest.param("https://a..b", "host name", id="an empty label"),
        pytest.param("https://-a.b", "host name", id="a label with a dash first"),
        pytest.param("https://bücher.example", "host name", id="an international name"),
        pytest.param("https://a b", "host name", id="a space"),
        pytest.param("https://a\\b", "host name", id="a backslash"),
        pytest.param("https://a\n", "host name", id="a line break"),
        pytest.param("https://" + "a" * 64, "host name", id="a label too long"),
        pytest.param("https://a." + "a" * 64, "host name", id="a second label too long"),
        pytest.param("https://" + ".".join(["a" * 63] * 3 + ["a" * 62]), "host name", id="a name a byte too long"),
        pytest.param("https://" + ".".join(["a" * 60] * 5), "host name", id="a name too long"),
        pytest.param("https://h/a//b", "empty segments", id="an empty segment"),
        pytest.param("https://h//", None, id="slashes alone are no path"),
        pytest.param("https://h/a%2fb", "percent", id="an escape"),
        pytest.param("https://h/a;b", "percent", id="a semicolon"),
        pytest.param("https://h/a\\b", "percent", id="a backslash in the path"),
        pytest.param("https://h/ä", "percent", id="a path that is not ASCII"),
        pytest.param("https://h/a/../b", "dot segments", id="two dots"),
        pytest.param("https://h/.", "dot segments", id="a dot"),
        pytest.param("https://h/...", "dot segments", id="three dots"),
        pytest.param("https://h/" + "a" * 2048, "longer", id="too long"),
    ],
)
def test_an_invalid_address_is_refused_with_the_reason(text: str, message: str | None) -> None:
    if message is None:
        assert parse_address(text).prefix == ""
        return
    with pytest.raises(ParseError, match=message):
        parse_address(text)


@given(st.text() | st.text(alphabet="htps:/[]@.?#%0123456789aA-\\\x00 ", max_size=40).map("https://".__add__))
def test_every_text_is_refused_or_parses_to_an_equal_address_again(text: str) -> None:
    try:
        address = parse_address(text)
    except ParseError:
        return
    assert parse_address(str(address)) == address
    assert authority_matches(address.authority, address)


@pytest.mark.parametrize(
    ("authority", "matches"),
    [
        ("k8s.example:6443", True),
        ("K8S.EXAMPLE.:6443", True),
        ("k8s.example", False),
        ("k8s.example:443", False),
        ("k8s.example:06443", True),
        ("other.example:6443", False),
        ("k8s.example:6443:6443", False),
        ("u@k8s.example:6443", False),
        ("k8s.example:6443/", False),
        ("k8s.example:6443\n", False),
        ("", False),
        (":", False),
        ("k8s.example:" + "0" * 300 + "6443", False),
        ("a" * 301, False),
    ],
)
def test_authority_matches(authority: str, matches: bool) -> None:
    assert authority_matches(authority, PLAIN) is matches


@pytest.mark.parametrize(
    ("host", "address", "matches"),
    [
        (b"k8s.example:6443", PLAIN, True),
        (b"k8s.example", PLAIN, False),
        (b"k8s.example", Address(host="k8s.example", port=443), True),
        (b"[2001:db8::1]:6443", Address(host="2001:db8::1", port=6443), True),
        (b"[2001:DB8:0::1]", Address(host="2001:db8::1", port=443), True),
        (b"\xff", PLAIN, False),
    ],
)
def test_host_matches(host: bytes, address: Address, matches: bool) -> None:
    assert host_matches(host, address) is matches


HOSTS = st.from_regex(r"[a-zA-Z0-9_.-]{1,20}", fullmatch=True) | st.ip_addresses(v=4).map(str)


@given(host=HOSTS, port=st.integers(0, 70000))
def test_for_every_host_outside_the_address_there_is_no_match(host: str, port: int) -> None:
    assume((host.lower().removesuffix("."), port) != (PLAIN.host, PLAIN.port))
    assert not authority_matches(f"{host}:{port}", PLAIN)
    assert not host_matches(f"{host}:{port}".encode(), PLAIN)


@given(st.ip_addresses(v=6), st.ip_addresses(v=6))
def test_every_spelling_of_an_ipv6_address_matches(one: ipaddress.IPv6Address, other: ipaddress.IPv6Address) -> None:
    address = parse_address(f"https://[{one.exploded.upper()}]:6443")
    assert authority_matches(f"[{one.compressed}]:6443", address)
    assert authority_matches(f"[{other}]:6443", address) is (one == other)


@pytest.mark.parametrize(
    "target",
    [
        b"/kubernetes/global",
        b"/kubernetes/global/",
        b"/kubernetes/global?x=/../..",
        b"/kubernetes/global/api/v1/pods?labelSelector=a%2Fb",
        b"/kubernetes/global/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node",
        b"/kubernetes/global/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
        b"/kubernetes/global/api/v1/namespaces/a/services/b/proxy//c;d/e%20f/.g/100%25/h%2Fi",
        b"/kubernetes/global/proxy/%C3%A9/%25C3%25A9",
        b"/kubernetes/global/..a/.b./x",
    ],
)
def test_paths_below_the_prefix_are_within_it(target: bytes) -> None:
    assert is_path_within(target, PREFIXED)


@pytest.mark.parametrize(
    "target",
    [
        b"", b"*", b"/", b"/kubernetes", b"/kubernetes/globa", b"/kubernetes/globally", b"/kubernetes/global2/x",
        b"//kubernetes/global/x", b"/kubernetes//global/x", b"/KUBERNETES/global/x", b"/kubernete%73/global/x",
        b"/kubernetes/global%2fx", b"/kubernetes/global\\x", b"/kubernetes/global;x/y",
        b"https://k8s.example:6443/kubernetes/global/x", b"kubernetes/global/x",
    ],
)  # fmt: skip
def test_paths_next_to_the_prefix_are_outside_it(target: bytes) -> None:
    assert not is_path_within(target, PREFIXED)


@pytest.mark.parametrize(
    "tail",
    [
        b"..", b".", b"...",
        b"../x", b"a/../..", b"%2e%2e/x", b".%2E/x", b"%2e", b"..%2fx", b"..%5cx", b"..\\x", b"a\\..\\x",
        b"..;/x", b"..;a=b/x", b"%2e%2e%3b/x", b"..%3fx", b"..%23x", b"..%00/x", b"a%00", b"a%0d%0ab", b"%252e%252e/x",
        b"%25252e%25252e%25252f", b"%2525252525252e", b"..%20/x", b"%20../x", b"...%2f", b"%c0%ae%c0%ae/x",
        b"%u002e%u002e/x", b"%", b"%2", b"%zz", b"%ef%bc%8e%ef%bc%8e/x", b"%e2%80%a5/x", b"a%ef%bc%8f..%ef%bc%8f",
        b"%ef%bc%852e%ef%bc%852e/x", b"a b", b"a\tb", b"a\x00", b"\xc3\xa9", b"a#b",
    ],
)  # fmt: skip
def test_no_spelling_leaves_the_prefix(tail: bytes) -> None:
    assert not is_path_within(b"/kubernetes/global/" + tail, PREFIXED)


@pytest.mark.parametrize("target", [b"/", b"/api", b"/a/../b", b"/%2e%2e/", b"//x", b"/?", b"/!", b"/~"])
def test_without_a_prefix_every_path_is_within(target: bytes) -> None:
    assert is_path_within(target, PLAIN)


@pytest.mark.parametrize("target", [b"", b"*", b"api", b"https://k8s.example:6443/", b"/a b", b"/a\n", b"/\x7f", b"/#"])
def test_without_a_prefix_only_paths_are_within(target: bytes) -> None:
    assert not is_path_within(target, PLAIN)


PIECES = st.sampled_from(
    ["a", ".", "..", "/", "//", "\\", ";", ";a", "?", "%2e", "%2E", "%2f", "%5c", "%25", "2e", "2f", "%3b", "%3f", "x"]
)


def readings(path: str) -> set[str]:
    """Return all readings of a path by servers.

    They decode it up to six times, and differ in backslashes and path parameters.
    """
    decoded = [path]
    for _ in range(6):
        decoded.append(unquote(decoded[-1]))
    texts = {each for text in decoded for each in (text, text.replace("\\", "/"))}
    texts |= {text.partition("?")[0] for text in texts}
    texts |= {"/".join(segment.partition(";")[0] for segment in text.split("/")) for text in texts}
    return texts


@given(st.lists(PIECES, max_size=12).map("".join))
def test_for_every_tail_no_reading_leaves_the_prefix(tail: str) -> None:
    path = f"{PREFIXED.prefix}/{tail}"
    if not is_path_within(path.encode(), PREFIXED):
        return
    for text in readings(path.partition("?")[0]):
        collapsed = posixpath.normpath(text)
        assert f"{collapsed}/".startswith(PREFIXED.prefix + "/"), (path, text)


@given(st.lists(PIECES, max_size=6).map("".join), st.lists(PIECES, max_size=6).map("".join))
def test_a_longer_path_never_returns_into_the_prefix(head: str, tail: str) -> None:
    paths = [f"{PREFIXED.prefix}/{head}", f"{PREFIXED.prefix}/{head}/{tail}"]
    for shorter, longer in pairwise(path.encode() for path in paths):
        if b"?" not in shorter and not is_path_within(shorter, PREFIXED):
            assert not is_path_within(longer, PREFIXED)


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        pytest.param("H.example:6443", "h.example", id="a name without case"),
        pytest.param("[FE80::1]:1", "fe80::1", id="an IPv6 address"),
        pytest.param("h", None, id="no port"),
        pytest.param("[::1]", None, id="an IPv6 address without a port"),
        pytest.param("h:0", None, id="no such port"),
        pytest.param("h:1/x", None, id="a path"),
        pytest.param("a@h:1", None, id="a user"),
        pytest.param("h" * 301 + ":1", None, id="too long"),
    ],
)
def test_an_authority_has_a_host_and_a_port(authority: str, host: str | None) -> None:
    assert host_of_authority(authority) == host


@pytest.mark.parametrize(
    ("host", "name"),
    [(b"A.example", "a.example"), (b"a.example:80", "a.example"), (b"[fd00::1]:1", "fd00::1"), (b"", None),
     (b"a:b:c", None), (b"a" * 301, None), (b"\xff", None)],
)  # fmt: skip
def test_a_host_header_has_a_host(host: bytes, name: str | None) -> None:
    assert host_of_header(host) == name


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param(b"/api/v1/pods?continue=../x", True, id="dots in a query"),
        pytest.param(b"/api/v1/pods?continue=/../x", True, id="dot segments in a query"),
        pytest.param(b"/api/v1/pods?x=%2e%2e/%zz", True, id="an invalid escape in a query"),
        pytest.param(b"/apis/a%2Fb", True, id="an escaped slash"),
        pytest.param(b"/a\\b", True, id="a backslash without dots"),
        pytest.param(b"/.well-known/x", True, id="a name that begins with a dot"),
        pytest.param(b"/a/../b", False, id="up"),
        pytest.param(b"/a/%2E%2e/b", False, id="escaped dots"),
        pytest.param(b"/a/%252e%252e/b", False, id="twice escaped dots"),
        pytest.param(b"/a/..\\b", False, id="a backslash"),
        pytest.param(b"/a\\..\\b", False, id="only backslashes"),
        pytest.param(b"/a%2f..%2fb", False, id="an escaped slash with dots"),
        pytest.param(b"/a%2", False, id="half an escape"),
        pytest.param(b"/a b", False, id="a space"),
        pytest.param(b"*", False, id="not a path"),
    ],
)
def test_a_traversal_free_path_has_no_dot_segments(path: bytes, expected: bool) -> None:
    assert is_traversal_free(path) is expected
