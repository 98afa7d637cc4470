"""A pod's own API server has precedence over a kubeconfig, and needs only aiohttp."""

import subprocess
import sys
from pathlib import Path

import pytest

from connector_store.kube import config_loader

POD = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
def service_account(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("pod-token")
    (tmp_path / "ca.crt").write_text("pem")
    return tmp_path


async def test_a_pods_service_account_has_precedence_over_the_kubeconfig(service_account: Path, tmp_path: Path) -> None:
    environ = POD | {"KUBECONFIG": str(tmp_path / "none")}
    configuration = await config_loader.load_configuration(environ=environ, service_account=service_account)
    assert (configuration.host, configuration.ssl_ca_cert) == ("https://[fd00::1]:443", str(service_account / "ca.crt"))
    assert await configuration.authorization() == "Bearer pod-token"
    with pytest.raises(ValueError, match="none not found"):
        await config_loader.load_configuration("x", environ=environ, service_account=service_account)


async def test_a_new_token_is_used_within_a_minute_though_the_clock_is_set_back(service_account: Path) -> None:
    now, clock = [1_000_000.0], [100.0]
    configuration = await config_loader.load_configuration(
        environ=POD, service_account=service_account, now=lambda: now[0], clock=lambda: clock[0]
    )
    (service_account / "token").write_text("next-token")
    now[0] -= 8 * 3600
    clock[0] += 60
    assert await configuration.authorization() == "Bearer next-token"


async def test_an_address_is_written_as_it_is(service_account: Path) -> None:
    environ = POD | {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}
    assert (
        await config_loader.load_configuration(environ=environ, service_account=service_account)
    ).host == "https://10.96.0.1:443"


@pytest.mark.parametrize(
    ("environ", "file", "content", "reason"),
    [
        pytest.param(POD | {"KUBERNETES_SERVICE_PORT": ""}, "token", "t", "KUBERNETES_SERVICE_PORT", id="no port"),
        pytest.param(POD, "token", "", "token is empty", id="an empty token"),
        pytest.param(POD, "ca.crt", "", "ca.crt is empty", id="an empty CA"),
        pytest.param(POD, "token", None, "token", id="no token"),
        pytest.param(POD, "ca.crt", None, "ca.crt", id="no CA"),
    ],
)
async def test_an_error_says_what_the_pod_lacks(
    service_account: Path, environ: dict[str, str], file: str, content: str | None, reason: str
) -> None:
    path = service_account / file
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(ValueError, match=f"no access to an API server: .*{reason}"):
        await config_loader.load_configuration(environ=environ, service_account=service_account)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("door", "absent"),
    [
        ("connector_controller.__main__", {"kubernetes", "yaml", "jwt", "grpc", "mitmproxy", "watchfiles", "uvloop"}),
        # The CSI driver runs on every node and reads no Secrets.
        ("connector_csi.__main__", {"kubernetes", "cryptography", "jwt", "mitmproxy", "watchfiles", "uvloop", "h11"}),
        ("addons.server.cluster", {"kubernetes", "grpc"}),
    ],
)
def test_a_program_does_not_import_libraries_that_it_does_not_use(door: str, absent: set[str]) -> None:
    program = f"import sys, {door}; print(*sys.modules, sep='\\n')"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = set(process.stdout.split())
    assert door.partition(".")[0] in imported
    assert absent & imported == set()
