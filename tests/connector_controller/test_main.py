"""The whole process: what it reports while the API server is down, and how soon it ends."""

import os
import signal
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from lab.ports import Port
from lab.process import Process
from lab.waiting import wait_until

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def get(url: str) -> tuple[int, str] | None:
    """Return None while the port is closed."""
    try:
        with urllib.request.urlopen(url, timeout=120) as answer:  # noqa: S310 - our own http URL
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return None


def test_it_is_live_and_says_what_it_waits_for_while_the_api_server_is_down(tmp_path: Path) -> None:
    away, admin = Port(), Port()
    kubeconfig = tmp_path / "kubeconfig"
    cluster = {"server": f"http://127.0.0.1:{away.number}"}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    kubeconfig.write_text(yaml.safe_dump(document))
    address = f"127.0.0.1:{admin.number}"
    command = [sys.executable, "-m", "connector_controller", "--kubeconfig", str(kubeconfig), "--admin", address]
    process = Process(command, log=tmp_path / "log", environment={"PYTHONPATH": os.fspath(ROOT)})
    process.start()
    try:
        assert wait_until(lambda: get(f"http://{address}/healthz"), "an answer") == (200, "ok\n")

        def readiness() -> str | None:
            status, text = get(f"http://{address}/readyz") or (0, "")
            return text if status == 503 and "cannot connect" in text else None

        assert 'configmaps "connectors-config"' in wait_until(readiness, "what it waits for")
        assert process.is_running
        process.signal(signal.SIGTERM)
        wait_until(lambda: not process.is_running, "its end")
        assert "stopped" in (tmp_path / "log").read_text()
    finally:
        process.kill()
        away.release()
        admin.release()
