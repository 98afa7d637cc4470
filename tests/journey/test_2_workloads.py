"""Stock kubectl in a pod, through the volume's kubeconfig: everything that pipelines do with it."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer

import pytest

from tests.journey.peers import Peer, audited_streams, start_peers
from tests.journey.worker import NAMESPACE, OTHER, Worker

CONFIG_MAP = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "made"}, "data": {"a": "1"}})


@pytest.fixture(scope="module")
def peers(worker: Worker) -> dict[str, Peer]:
    return start_peers(worker, "by")


@pytest.fixture(params=["a WebSocket", "SPDY"])
def peer(request: pytest.FixtureRequest, peers: dict[str, Peer]) -> Peer:
    return peers[str(request.param)]


def test_the_target_sees_the_targets_account(worker: Worker) -> None:
    user = json.loads(worker.must("auth", "whoami", "-o", "json"))["status"]["userInfo"]["username"]
    assert user == f"system:serviceaccount:{NAMESPACE}:target"


def test_the_pod_has_no_credential_of_the_target(worker: Worker) -> None:
    contents = worker.shell("cat /connector/* /connector/.env; env")
    assert worker.token not in contents
    url = worker.product.node.control_plane.url
    direct = worker.run("--kubeconfig=/dev/null", f"--server={url}", "--insecure-skip-tls-verify", "--token",
                        worker.shell("cat /connector/context.token").strip(), "get", "pods")  # fmt: skip
    assert direct.returncode != 0
    assert "Unauthorized" in direct.stderr or "must be logged in" in direct.stderr


def test_objects_are_applied_changed_and_deleted(worker: Worker) -> None:
    assert worker.must("apply", "-f", "-", stdin=CONFIG_MAP) == "configmap/made created\n"
    worker.must("patch", "configmap", "made", "--type=merge", "-p", '{"data": {"a": "2"}}')
    assert worker.must("get", "configmap", "made", "-o", "jsonpath={.data.a}") == "2"
    assert "deleted" in worker.must("delete", "configmap", "made")


@pytest.mark.parametrize("kubeconfig", ["kubeconfig", "kubeconfig-rotating"])
def test_both_configurations_work(worker: Worker, kubeconfig: str) -> None:
    assert OTHER in worker.must(f"--kubeconfig=/connector/{kubeconfig}", "get", "pods", "-o", "name")


def test_exec_passes_input_output_and_the_exit_code(worker: Worker, peer: Peer) -> None:
    script = "cat; echo error >&2; exit 7"
    command = ("exec", "-i", peer.pod, "--", "sh", "-c", script)
    done = worker.run(*command, stdin="input\n", environment=peer.environment)
    assert (done.returncode, done.stdout) == (7, "input\n")
    assert "error" in done.stderr
    assert audited_streams(worker, peer, "exec") == {(peer.verb, 101)}


def test_cp_brings_a_file_there_and_back(worker: Worker, peer: Peer) -> None:
    worker.shell(
        f"export {' '.join(peer.environment)}; "
        f"k='kubectl -n {NAMESPACE}'; busybox dd if=/dev/urandom of=/tmp/a bs=1000 count=2000 2>/dev/null; "
        f"$k cp /tmp/a {peer.pod}:/tmp/a; $k cp {peer.pod}:/tmp/a /tmp/b; busybox cmp /tmp/a /tmp/b"
    )
    assert audited_streams(worker, peer, "exec") == {(peer.verb, 101)}


def test_port_forward_carries_a_connection(worker: Worker, peer: Peer) -> None:
    worker.must("exec", peer.pod, "--", "httpd", "-p", "8000", "-h", "/etc", environment=peer.environment)
    answer = worker.shell(
        f"export {' '.join(peer.environment)}; "
        f"k='kubectl -n {NAMESPACE}'; rm -f /tmp/forward; "
        f"$k port-forward pod/{peer.pod} 8000:8000 >/tmp/forward 2>&1 & forward=$!; "
        "until grep -q Forwarding /tmp/forward; do kill -0 $forward; sleep 0.2; done; "
        "printf 'GET /passwd HTTP/1.0\\r\\n\\r\\n' | nc -w 120 127.0.0.1 8000; kill $forward; wait $forward || true"
    )
    assert "nobody" in answer
    assert audited_streams(worker, peer, "portforward") == {(peer.verb, 101)}


def test_logs_are_followed_to_their_end(worker: Worker) -> None:
    script = "echo line 1; until [ -e /tmp/go ]; do sleep 0.2; done; echo line 2; sleep 1; echo line 3"
    box = worker.product.node.box_image
    worker.must("run", "talker", f"--image={box}", "--restart=Never", "--", "sh", "-c", script)
    worker.must("wait", "--for=condition=Ready", "pod/talker", "--timeout=250s")
    with started(worker.command("logs", "-f", "talker")) as log:
        assert log.stdout is not None
        assert log.stdout.readline() == "line 1\n"
        worker.must("exec", "talker", "--", "touch", "/tmp/go")
        assert log.stdout.read() == "line 2\nline 3\n"
        assert log.wait() == 0


def test_a_watch_sees_a_change_as_it_happens(worker: Worker) -> None:
    with started(worker.command("get", "configmaps", "--watch", "--output-watch-events", "--no-headers")) as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline().split()[0] == "ADDED"
        worker.product.kubectl("create", "configmap", "seen", namespace=NAMESPACE)
        while "seen" not in (line := watch.stdout.readline()):
            assert line, "the watch ended"


@contextmanager
def started(command: list[str]) -> Iterator["subprocess.Popen[str]"]:
    """Killed at the end, or after ten minutes."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    timer = Timer(600, child.kill)
    timer.start()
    try:
        yield child
    finally:
        timer.cancel()
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()
