"""The check reports each problem with its file and line."""

import datetime
import json
from pathlib import Path

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from connector_store.domain.base.errors import ParseError
from connector_store.domain.config.settings import Settings
from connectorctl.check import Report, check_folder
from connectorctl.example import MANIFESTS, write_example

NOW = 1_800_000_000.0
GOOD = MANIFESTS.replace("REPLACE-WITH-A-TOKEN", "s3cret").replace("k8s.example", "k8s.corp")
CONNECTOR = GOOD.partition("---\n")[2]


def check(path: Path) -> Report:
    return check_folder(path, Settings(), now=NOW)


def put(folder: Path, text: str, name: str = "a.yaml", mode: int = 0o600) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return path


def format_findings(folder: Path, report: Report) -> list[str]:
    return [str(each).replace(f"{folder}/", "").replace(str(folder), "DIR") for each in report.findings]


def line_of(text: str, part: str) -> int:
    return 1 + next(number for number, line in enumerate(text.splitlines()) if part in line)


def token(expires: float, **claims: int) -> str:
    return jwt.encode({"exp": int(expires), **claims}, "x" * 32, algorithm="HS256")


def certificate(*, days: float) -> str:
    """Return GOOD with a client certificate that expires this many days after NOW."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    ends = datetime.datetime.fromtimestamp(NOW, datetime.UTC) + datetime.timedelta(days=days)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    signed = (
        builder.not_valid_before(ends - datetime.timedelta(days=30)).not_valid_after(ends).sign(key, hashes.SHA256())
    )
    pem = {
        "tls.crt": signed.public_bytes(serialization.Encoding.PEM),
        "tls.key": key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    }
    lines = [f"  {key}: {json.dumps(value.decode())}\n" for key, value in pem.items()]
    comment = "  # A token of the target cluster: kubectl create token NAME --duration 168h\n"
    return (
        GOOD.replace("connectors.cpaas.io/bearer-token", "connectors.cpaas.io/client-certificate")
        .replace(comment, "")
        .replace("  token: s3cret\n", "".join(lines))
        .replace("bearerTokenAuth", "clientCertificateAuth")
    )


def test_a_complete_folder_has_no_findings(tmp_path: Path) -> None:
    put(tmp_path, GOOD)
    report = check(tmp_path)
    assert (report.findings, report.error_count) == ((), 0)
    assert report.summary == "1 of 1 Connectors can be used; no problems"
    assert [facts.connector.key.name for facts, _ in report.targets] == ["k8s-connector"]


def test_the_unfinished_example_has_two_findings(tmp_path: Path) -> None:
    write_example(tmp_path / "c")
    report = check(tmp_path / "c")
    assert format_findings(tmp_path / "c", report) == [
        f"k8s-connector.yaml:{line_of(MANIFESTS, '  token:')}: Secret default/k8s-secret: stringData[token]: "
        "is a placeholder; enter a token of the target",
        f"k8s-connector.yaml:{line_of(MANIFESTS, 'address:')}: Connector default/k8s-connector: spec.address: "
        "k8s.example is an example; enter the address of the target",
    ]
    assert report.summary == "0 of 1 Connectors can be used; 2 problems to fix"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            GOOD + "  caCertSecretReff: {name: x}\n",
            "a.yaml:28: Connector default/k8s-connector: spec.caCertSecretReff: unknown field; "
            "did you mean caCertSecretRef?",
            id="an unknown field",
        ),
        pytest.param(
            GOOD.replace("kind: Connector", "kind: Conector"),
            'a.yaml:17: kind: "Conector" is not read here; did you mean Connector?',
            id="an unknown kind",
        ),
        pytest.param(
            GOOD.replace("https:", "http:"),
            "a.yaml:23: Connector default/k8s-connector: spec.address: is not an https URL; "
            "write https://HOST[:PORT][/PATH]",
            id="an invalid address",
        ),
        pytest.param(
            GOOD.replace("s3cret", token(NOW - 3 * 86400)),
            "a.yaml:10: Secret default/k8s-secret: stringData[token]: the token expired 3 days ago; renew it",
            id="an expired token",
        ),
        pytest.param(
            certificate(days=-3),
            "a.yaml:9: Secret default/k8s-secret: stringData[tls.crt]: the certificate expired 3 days ago; renew it",
            id="an expired certificate",
        ),
        pytest.param(
            GOOD.replace("s3cret", "eyJ..."),
            "a.yaml:10: Secret default/k8s-secret: stringData[token]: is a placeholder; enter a token of the target",
            id="the token of a README",
        ),
        pytest.param("a: ]", "a.yaml:1: is not YAML: did not find expected node content", id="not YAML"),
    ],
)  # fmt: skip
def test_a_broken_manifest_is_an_error(tmp_path: Path, text: str, expected: str) -> None:
    put(tmp_path, text)
    report = check(tmp_path)
    assert expected in format_findings(tmp_path, report)
    assert report.error_count


@pytest.mark.parametrize(
    ("text", "mode", "expected"),
    [
        pytest.param(
            GOOD.replace("s3cret", token(NOW + 2400)),
            0o600,
            "a.yaml:10: warning: Secret default/k8s-secret: stringData[token]: the token expires in 40 min; "
            "renew it before",
            id="a token that expires soon",
        ),
        pytest.param(
            certificate(days=0.5),
            0o600,
            "a.yaml:9: warning: Secret default/k8s-secret: stringData[tls.crt]: the certificate expires in 12 h; "
            "renew it before",
            id="a certificate that expires soon",
        ),
        pytest.param(
            GOOD,
            0o644,
            "a.yaml: warning: has a credential that users other than its owner may read; run: chmod 600 DIR/a.yaml",
            id="a file that others can read",
        ),
    ],
)
def test_a_risk_is_a_warning(tmp_path: Path, text: str, mode: int, expected: str) -> None:
    put(tmp_path, text, mode=mode)
    report = check(tmp_path)
    assert format_findings(tmp_path, report) == [expected.replace("DIR/", "")]
    assert report.error_count == 0
    assert report.summary == "1 of 1 Connectors can be used; no problems, 1 warning"


def test_a_mask_with_ways_around_it_is_a_warning(tmp_path: Path) -> None:
    def masked(*parts: str) -> str:
        entries = "".join(f"    - {{clusterRole: connectors-credentials-{part}}}\n" for part in parts)
        return f"{GOOD}  permissions:\n    mask: [{{resources: [secrets]}}]\n    deny:\n{entries}"

    put(tmp_path, masked("issuing", "streams"))
    (finding,) = format_findings(tmp_path, check(tmp_path))
    assert finding.endswith(
        "warning: Connector default/k8s-connector: spec.permissions.mask: callers can get around it; add to "
        "spec.permissions.deny: connectors-credentials-rights (roles, impersonation, webhooks and API services), "
        "connectors-credentials-workloads (pods, and the objects that start them)"
    )
    put(tmp_path, masked("issuing", "streams", "rights", "workloads", "secrets"))
    (finding,) = format_findings(tmp_path, check(tmp_path))
    assert finding.endswith(
        "info: Connector default/k8s-connector: spec.permissions: mask has no effect, because "
        "connectors-credentials-secrets of deny covers reading Secrets"
    )
    put(tmp_path, masked("issuing", "streams", "rights", "workloads"))
    assert format_findings(tmp_path, check(tmp_path)) == []


def test_an_unsupported_probe_of_a_class_is_a_warning(tmp_path: Path) -> None:
    put(tmp_path, GOOD)
    put(
        tmp_path,
        "apiVersion: connectors.alauda.io/v1alpha1\nkind: ConnectorClass\nmetadata: {name: x}\n"
        "spec: {auth: {types: [{name: a, secretType: connectors.cpaas.io/bearer-token}]}, "
        "authProbes: [{authName: a, probe: {http: {path: '{{ .x }}'}}}]}\n",
        "class.yaml",
    )
    [line] = format_findings(tmp_path, check(tmp_path))
    assert line.startswith("class.yaml:4: warning: ConnectorClass x: ")


def test_a_valid_token_and_a_public_file_without_one_have_no_warning(tmp_path: Path) -> None:
    put(tmp_path, GOOD.replace("s3cret", token(NOW + 7 * 86400)))
    put(tmp_path, CONNECTOR.replace("k8s-connector", "other"), "b.yaml", mode=0o644)
    assert check(tmp_path).findings == ()


def test_a_token_of_two_hours_has_a_warning_in_its_last_fifth_only(tmp_path: Path) -> None:
    put(tmp_path, GOOD.replace("s3cret", token(NOW + 1800, iat=int(NOW - 5400))))
    assert check(tmp_path).findings == ()
    put(tmp_path, GOOD.replace("s3cret", token(NOW + 1200, iat=int(NOW - 6000))))
    [line] = format_findings(tmp_path, check(tmp_path))
    assert "the token expires in 20 min" in line


def test_a_folder_without_manifests_is_an_error(tmp_path: Path) -> None:
    report = check(tmp_path)
    assert format_findings(tmp_path, report) == [
        "DIR: the folder has no manifests (*.yaml, *.yml, *.json); create one with: connectorctl init DIR"
    ]
    assert report.error_count == 1
    assert report.summary == "0 of 0 Connectors can be used; 1 problem to fix"


def test_a_folder_without_a_connector_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, GOOD.partition("---\n")[0])
    assert format_findings(tmp_path, check(tmp_path)) == [
        "DIR: the folder has no Connector; create one with: connectorctl init DIR"
    ]


def test_ignored_files_are_reported(tmp_path: Path) -> None:
    put(tmp_path, GOOD)
    put(tmp_path, "", "a.txt")
    put(tmp_path, "", ".hidden")
    (tmp_path / "sub").mkdir()
    report = check(tmp_path)
    assert format_findings(tmp_path, report) == [
        "a.txt: info: is not read; manifests are *.yaml, *.yml, *.json",
        "sub: info: sub-folders are not read; manifests are *.yaml, *.yml, *.json",
    ]
    assert report.error_count == 0


def test_one_file_is_checked_with_the_secrets_of_its_folder(tmp_path: Path) -> None:
    secret, _, connector = GOOD.partition("---\n")
    path = put(tmp_path, connector, "connector.yaml")
    put(tmp_path, secret, "secret.yaml", mode=0o644)
    put(tmp_path, "a: ]", "broken.yaml")
    report = check(path)
    assert (report.findings, report.connectors, len(report.targets)) == ((), 1, 1)
    assert check(tmp_path).error_count == 1


def test_a_missing_path_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ParseError, match="does not exist; create it with: connectorctl init"):
        check(tmp_path / "absent")
    with pytest.raises(ParseError, match="does not exist; name a folder of manifests, or one file of it"):
        check(tmp_path / "absent.yaml")
