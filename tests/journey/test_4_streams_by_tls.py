"""Stock kubectl in a pod, new and old, with TLS to the proxy: through an https proxy-url, and by direct access.

It has only the volume of its pod, and the names of Services are those of the cluster.
"""

import pytest

from lab.programs import OLD_KUBECTL, ensure_programs
from tests.journey.peers import Peer, audited_streams, start_peers
from tests.journey.product import SYSTEM
from tests.journey.worker import CONNECTOR, NAMESPACE, Worker, worker_pod

POD = "streams"
OLD = "/tmp/kubectl-old"
ALIAS = f"c-{CONNECTOR}.{NAMESPACE}.svc.cluster.local"
BY_PATH = f"connectors-proxy.{SYSTEM}.svc.cluster.local/connectors/{NAMESPACE}/{CONNECTOR}"
DIRECT = r"certificate-authority: \|tokenFile: "
WAYS = {
    "https proxy-url": ("kubeconfig", rf"s#http://\(.*\)@{ALIAS}:80$#https://\1@{ALIAS}:443#", f"@{ALIAS}:443"),
    "host form": ("kubeconfig-direct", rf"s#\({DIRECT}\)#\1/connector/#", f"server: https://{ALIAS}"),
    "path form": (
        "kubeconfig-direct",
        rf"s#\({DIRECT}\)#\1/connector/#; s#https://{ALIAS}$#https://{BY_PATH}#",
        f"server: https://{BY_PATH}",
    ),
}
"""Name -> a kubeconfig of the volume, what makes another of it, and what that has to say then."""
EVERYTHING = r"""
set -eu
folder=$(mktemp -d)
cd "$folder"
sed "$change" "/connector/$file" >kubeconfig
grep -q "$says" kubeconfig
k="$program --kubeconfig=kubeconfig --cache-dir=cache --namespace=$namespace"
$k get pods --output=name | grep -q "pod/$peer"
$k get configmaps --watch --output=name >watch 2>&1 &
watch=$!
until grep -q kube-root-ca.crt watch; do kill -0 $watch; sleep 0.2; done
$k create configmap "seen-$$" >/dev/null
until grep -q "seen-$$" watch; do kill -0 $watch; sleep 0.2; done
kill $watch
code=0
echo input | $k exec -i "$peer" -- sh -c 'cat; exit 7' >out 2>err || code=$?
[ "$code $(cat out)" = "7 input" ]
busybox dd if=/dev/urandom of=a bs=1000 count=500 2>/dev/null
$k cp a "$peer:/tmp/a"
$k cp "$peer:/tmp/a" b
busybox cmp a b
$k port-forward "pod/$peer" :8000 >forward 2>&1 &
forward=$!
until grep -q '127.0.0.1:[0-9]* ->' forward; do kill -0 $forward; sleep 0.2; done
printf 'GET /passwd HTTP/1.0\r\n\r\n' | nc -w 120 127.0.0.1 "$(sed -n 's/.*127.0.0.1:\([0-9]*\) ->.*/\1/p' forward)"
kill $forward
"""


@pytest.fixture(scope="module")
def peers(worker: Worker) -> dict[str, Peer]:
    """Start the peers and the pod with both versions of kubectl."""
    product = worker.product
    pod = worker_pod(product.node.box_image, POD, configuration_names="kubeconfig,kubeconfig-direct")
    product.api.apply(pod, namespace=NAMESPACE)
    started = start_peers(worker, "by-tls")
    product.node.wait_for_pod(POD, NAMESPACE)
    old = ensure_programs(OLD_KUBECTL, ("kubectl",)) / "kubectl"
    product.kubectl("cp", str(old), f"{POD}:{OLD}", namespace=NAMESPACE)
    for each in started.values():
        served = ("exec", each.pod, "--", "httpd", "-p", "8000", "-h", "/etc")
        product.kubectl(*served, namespace=NAMESPACE)
    return started


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("program", "protocol"),
    [
        pytest.param("kubectl", "a WebSocket", id="by WebSocket"),
        pytest.param("kubectl", "SPDY", id="by SPDY"),
        pytest.param(OLD, "SPDY", id="the old one"),
    ],
)
def test_kubectl_gets_watches_executes_copies_and_forwards(
    worker: Worker, peers: dict[str, Peer], way: str, program: str, protocol: str
) -> None:
    peer = peers[protocol]
    file, change, says = WAYS[way]
    settings = {"file": file, "change": change, "says": says, "program": program, "namespace": NAMESPACE}
    environment = [f"{name}={value}" for name, value in (settings | {"peer": peer.pod}).items()]
    command = ["exec", POD, "--", "env", *environment, *peer.environment, "sh", "-c", EVERYTHING]
    done = worker.product.kubectl.run(*command, namespace=NAMESPACE, timeout=600)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{worker.product.state()}"
    assert "nobody" in done.stdout
    for subresource in ("exec", "portforward"):
        assert audited_streams(worker, peer, subresource) == {(peer.verb, 101)}
