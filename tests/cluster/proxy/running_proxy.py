"""The proxy as its image runs it, `python -m addons -s addons/connector.py`, as a child process of a test."""

import base64
import http.client
import json
import os
import ssl
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.kubeconfig.kubeconfig import KubeconfigEntry, KubeconfigStyle, build_kubeconfig, to_yaml
from connector_store.domain.objects.manifest import parse_connector
from connector_store.domain.objects.models import Connector
from connector_store.folder.signing_key import SigningKey
from lab import manifests
from lab.kubectl import Kubectl
from lab.ports import Port
from lab.process import Process, complete_lines

ROOT = Path(__file__).parents[3]
WAIT_TIMEOUT = 180.0
"""Seconds that a test waits for what must happen, on a busy machine."""
START_TIMEOUT = 400.0
"""Seconds for the start of a proxy, which was 180 on a machine with ten times as many programs as cores."""
AUDIENCE = "connectors-proxy"


class RunningProxy:
    """Files in `home`: connectors/ (manifests), conf/ (mitmproxy's confdir), proxy.log (what it printed)."""

    def __init__(
        self,
        home: Path,
        *,
        options: Mapping[str, str] = {},
        environment: Mapping[str, str] = {},
        program: str = "addons",
        arguments: Sequence[str] = (),
        tree: Path = ROOT,
    ) -> None:
        """Prepare a proxy. `tree` has its code, which may be of another release.

        `program` is "addons", or one of mitmproxy's own, which take a second of CPU more to start.
        """
        self.home = home
        self.manifests = home / "connectors"
        self.manifests.mkdir(parents=True)
        self.confdir = home / "conf"
        self._ports = Port(), Port()
        self.port, self.admin_port = (each.number for each in self._ports)
        self.log = home / "proxy.log"
        settings = {
            "confdir": str(self.confdir),
            "listen_host": "127.0.0.1",
            "listen_port": str(self.port),
            "connector_source": str(self.manifests),
            "connector_admin": f"127.0.0.1:{self.admin_port}",
        } | dict(options)
        sets = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        # The image's program is a module.
        program_command = (
            [sys.executable, "-m", program] if program == "addons" else [str(Path(sys.executable).with_name(program))]
        )
        command = [*program_command, "-s", str(tree / "addons/connector.py"), *sets]
        inherited = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"}
        self.process = Process([*command, *arguments], log=self.log, environment=inherited | dict(environment))

    def __enter__(self) -> Self:
        self.start()
        self.process.wait_until(lambda: self.admin("/readyz")[0] == 200, timeout=START_TIMEOUT)
        return self

    def start(self) -> None:
        """Returns when it listens, ready or not."""
        self.process.start()
        self.process.wait_until(lambda: self.admin("/healthz")[0] == 200, timeout=START_TIMEOUT)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An interrupt ends it at once. After SIGTERM a proxy of a cluster accepts connections for five more seconds.
        self.process.interrupt()
        for port in self._ports:
            port.release()

    def write(self, file: str, *objects: Mapping[str, Any]) -> None:
        """One file of manifests, replaced as editors do it."""
        manifests.write_manifests(self.manifests, *objects, file=file)

    def admin(self, path: str) -> tuple[int, str]:
        """Send a GET to the admin address; (0, "") if the connection fails."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=WAIT_TIMEOUT)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def has_active_watch(self) -> bool:
        lines = self.admin("/metrics")[1].splitlines()
        return any(each.startswith("connector_streams_active{") and each.endswith(" 1.0") for each in lines)

    def command_line(self) -> bytes:
        """Return the command line, which every user of the machine can read."""
        return Path(f"/proc/{self.process.pid}/cmdline").read_bytes()

    def audit(self) -> list[dict[str, Any]]:
        """The audit lines so far."""
        return [
            json.loads(each) for each in complete_lines(self.log) if each.startswith('{"time"') and '"event":' in each
        ]

    def token(self, key: ObjectKey, *, ttl: int = 3600) -> str:
        return SigningKey.load_or_create(self.confdir).issue(key, ttl=ttl, now=time.time(), audience=AUDIENCE)

    def connect_request(self, key: ObjectKey, authority: str) -> bytes:
        """A CONNECT with a good token."""
        login = base64.b64encode(f"{key}:{self.token(key)}".encode()).decode()
        return (
            f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nProxy-Authorization: Basic {login}\r\n\r\n".encode()
        )

    def open_tunnel(self, key: ObjectKey, url: str, *, source: str = "127.0.0.1") -> http.client.HTTPSConnection:
        """Return a connection that opens a tunnel to the target at `url` with its first request."""
        context = ssl.create_default_context(cadata=self.ca_pem().decode())
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=context, timeout=WAIT_TIMEOUT, source_address=(source, 0)
        )
        login = base64.b64encode(f"{key}:{self.token(key)}".encode()).decode()
        host, _, port = url.removeprefix("https://").partition(":")
        connection.set_tunnel(host, int(port), {"Proxy-Authorization": f"Basic {login}"})
        return connection

    def resident(self) -> int:
        """Resident memory of the proxy in kB."""
        return self.process.resident_kb

    def ca_pem(self) -> bytes:
        return (self.confdir / "mitmproxy-ca-cert.pem").read_bytes()

    def kubectl(
        self,
        control_plane_kubectl: Kubectl,
        manifest: Mapping[str, Any],
        *,
        token: str | None = None,
        direct: bool = False,
    ) -> Kubectl:
        """kubectl with the kubeconfig of a workload that uses the Connector of `manifest`.

        With `direct` the proxy is the server, by path, with TLS.
        """
        connector = parse_connector(manifest)
        assert isinstance(connector, Connector)
        entry = KubeconfigEntry(
            key=connector.key,
            address=connector.address,
            proxy=f"{'https' if direct else 'http'}://127.0.0.1:{self.port}",
            ca=self.ca_pem(),
            token=token or self.token(connector.key),
        )
        folder = self.home / "workload"
        folder.mkdir(exist_ok=True)
        path = folder / f"{connector.key.name}-{len(list(folder.iterdir()))}.kubeconfig"
        path.write_text(to_yaml(build_kubeconfig([entry], KubeconfigStyle(direct=direct))))
        return Kubectl(control_plane_kubectl.program, path)
