"""Policy for the addresses of targets."""

import ipaddress

import pytest

from connector_store.domain.decision.address_policy import AddressPolicy, normalise


def networks(*texts: str):
    return tuple(map(ipaddress.ip_network, texts))


IN_CLUSTER = AddressPolicy.from_settings(
    allow=(), deny=(), in_cluster=True, own_addresses=("10.244.0.7", "::ffff:10.96.0.9", "fd00::7")
)


@pytest.mark.parametrize(
    ("ip", "allowed"),
    [
        pytest.param("192.168.1.100", True, id="a private address"),
        pytest.param("2001:db8::1", True, id="an IPv6 address"),
        pytest.param("10.244.0.8", True, id="the address next to the proxy's"),
        pytest.param("127.0.0.1", False, id="loopback"),
        pytest.param("127.8.8.8", False, id="all of loopback"),
        pytest.param("::1", False, id="IPv6 loopback"),
        pytest.param("0.0.0.0", False, id="unspecified, which Linux uses as loopback"),  # noqa: S104 - an address to refuse
        pytest.param("::", False, id="IPv6 unspecified"),
        pytest.param("169.254.169.254", False, id="cloud metadata"),
        pytest.param("100.100.100.200", False, id="metadata of Alibaba Cloud"),
        pytest.param("100.100.100.201", True, id="the address next to it"),
        pytest.param("168.63.129.16", False, id="metadata of Azure"),
        pytest.param("::ffff:168.63.129.16", False, id="metadata of Azure, IPv4-mapped"),
        pytest.param("192.0.0.192", False, id="metadata of Oracle Cloud"),
        pytest.param("fd00:c1::a9fe:a9fe", False, id="IPv6 metadata of Oracle Cloud"),
        pytest.param("fd00:ec2::254", False, id="IPv6 metadata of AWS"),
        pytest.param("fd00:ec2::23", False, id="pod identities of AWS"),
        pytest.param("fd00:ec3::254", True, id="an address of another network"),
        pytest.param("fd20:ce::254", False, id="IPv6 metadata of Google Cloud"),
        pytest.param("fd00:a9fe:a9fe::1", False, id="IPv6 metadata of Akamai"),
        pytest.param("fd00:42::42", False, id="IPv6 metadata of Scaleway"),
        pytest.param("fe80::1", False, id="IPv6 link-local"),
        pytest.param("fe80::1%eth0", False, id="link-local with a scope"),
        pytest.param("::ffff:127.0.0.1", False, id="IPv4-mapped loopback"),
        pytest.param("::ffff:a9fe:a9fe", False, id="IPv4-mapped metadata in hexadecimal"),
        pytest.param("::ffff:127.0.0.1%1", False, id="IPv4-mapped with a scope"),
        pytest.param("::127.0.0.1", False, id="IPv4-compatible loopback"),
        pytest.param("64:ff9b::127.0.0.1", False, id="NAT64 of loopback"),
        pytest.param("64:ff9b::8.8.8.8", True, id="NAT64 of a public address"),
        pytest.param("2002:7f00:1::1", False, id="6to4 of loopback"),
        pytest.param("10.244.0.7", False, id="the proxy's pod"),
        pytest.param("::ffff:10.244.0.7", False, id="the proxy's pod, IPv4-mapped"),
        pytest.param("10.96.0.9", False, id="the proxy's Service, given IPv4-mapped"),
        pytest.param("fd00::7", False, id="the proxy's IPv6 address"),
        pytest.param("127.1", False, id="a short form"),
        pytest.param("localhost", False, id="a name"),
        pytest.param("", False, id="nothing"),
    ],
)
def test_addresses_in_a_cluster(ip, allowed) -> None:
    assert IN_CLUSTER.allows(ip) is allowed


def test_outside_a_cluster_only_the_settings_deny_addresses() -> None:
    allow, deny = networks("10.9.0.0/16"), networks("10.0.0.0/8")
    policy = AddressPolicy.from_settings(allow=allow, deny=deny, in_cluster=False, own_addresses=("192.0.2.1",))
    assert policy.allows("127.0.0.1")
    assert policy.allows("192.0.2.1")
    assert not policy.allows("10.1.2.3")
    assert policy.allows("10.9.2.3")


@pytest.mark.parametrize(
    ("host", "denied"),
    [
        pytest.param("127.0.0.1", True, id="a denied address"),
        pytest.param("::1", True, id="a denied IPv6 address"),
        pytest.param("192.0.2.1", False, id="an allowed address"),
        pytest.param("localhost", False, id="a name, which is not resolved"),
    ],
)
def test_denies_checks_ip_addresses_but_not_names(host: str, denied: bool) -> None:
    assert IN_CLUSTER.denies(host) is denied


def test_denied_networks_add_to_those_of_a_cluster_and_allow_wins() -> None:
    policy = AddressPolicy.from_settings(
        allow=networks("127.0.0.0/8", "10.1.0.0/16"), deny=networks("10.0.0.0/8"), in_cluster=True
    )
    assert policy.allows("127.0.0.1")
    assert policy.allows("::ffff:127.0.0.1")
    assert policy.allows("10.1.2.3")
    assert not policy.allows("10.2.2.3")
    assert not policy.allows("169.254.0.1")


def test_normalise_keeps_other_addresses() -> None:
    assert normalise(ipaddress.ip_address("192.0.2.1")) == ipaddress.ip_address("192.0.2.1")
    assert normalise("2001:db8::1%3") == ipaddress.ip_address("2001:db8::1")
