"""One etcd member on loopback, with the faults that tests cause."""

import base64
import http.client
import json
import shutil
import signal
from pathlib import Path
from typing import Any

from lab.ports import Port
from lab.process import Process

READY_TIMEOUT = 180.0


class Etcd:
    def __init__(self, folder: Path, program: Path) -> None:
        self._data = folder / "etcd"
        self._client_port, self._peer_port = Port(), Port()
        self.endpoint = f"http://127.0.0.1:{self._client_port.number}"
        peer = f"http://127.0.0.1:{self._peer_port.number}"
        self.process = Process(
            [
                program,
                f"--data-dir={self._data}",
                f"--listen-client-urls={self.endpoint}",
                f"--advertise-client-urls={self.endpoint}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                "--unsafe-no-fsync",
            ],
            log=folder / "etcd.log",
        )

    def start(self) -> None:
        self.process.start()
        self.process.wait_until(self._is_healthy, timeout=READY_TIMEOUT)

    def stop(self) -> None:
        self.process.kill()

    def restart(self) -> None:
        self.process.kill()
        self.start()

    def recover(self) -> None:
        """Resume or start the member, and wait until it is healthy."""
        self.process.signal(signal.SIGCONT)
        if not self.process.is_running:
            self.process.start()
        self.process.wait_until(self._is_healthy, timeout=READY_TIMEOUT)

    def close(self) -> None:
        self.stop()
        self._client_port.release()
        self._peer_port.release()
        shutil.rmtree(self._data, ignore_errors=True)

    def save(self, folder: Path) -> None:
        """Copy the data to a new folder, as a backup does. The member restarts."""
        self.process.kill()
        shutil.copytree(self._data, folder)
        self.start()

    def restore(self, folder: Path) -> None:
        """Replace the data with that of `save`, and start the member. Stop the API server before."""
        self.process.kill()
        shutil.rmtree(self._data)
        shutil.copytree(folder, self._data)
        self.start()

    def compact(self) -> int:
        """Remove the history before the current revision, and return this revision.

        An open watch continues. A watch from an earlier version fails with 410 only after a restart of the API server,
        because its watch cache still has the old events.
        """
        revision = int(self._call("/v3/kv/range", {"key": base64.b64encode(b"/").decode()})["header"]["revision"])
        self._call("/v3/kv/compaction", {"revision": str(revision), "physical": True})
        return revision

    def revisions(self) -> dict[str, int]:
        """Return the revision of the last change of each key."""
        everything = {"key": "AA==", "range_end": "AA==", "keys_only": True}
        entries = self._call("/v3/kv/range", everything)["kvs"]
        return {base64.b64decode(entry["key"]).decode(): int(entry["mod_revision"]) for entry in entries}

    def _call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """https://etcd.io/docs/latest/dev-guide/api_grpc_gateway/"""
        status, response = self._request("POST", path, json.dumps(body))
        if status != 200:
            raise RuntimeError(f"etcd {path}: {status} {response!r}")
        value: dict[str, Any] = json.loads(response)
        return value

    def _is_healthy(self) -> bool:
        try:
            return self._request("GET", "/health")[0] == 200
        except OSError:
            return False

    def _request(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._client_port.number, timeout=120)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()
