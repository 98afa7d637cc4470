"""The peers that are not ours: mitmdump, squid and nginx, each with its configuration in this folder."""

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from string import Template

from bench.peers.endpoint import Endpoint
from bench.process import MeasuredProcess, free_port
from bench.testbed import Testbed

HERE = Path(__file__).parent
CERTGEN = Path("/usr/lib/squid/security_file_certgen")
LOGGER = Path("/usr/lib/squid/log_file_daemon")


def missing_packages() -> str | None:
    """What to install before the comparison can run, if anything."""
    if not (shutil.which("squid") and CERTGEN.exists() and shutil.which("nginx")):
        return "bench compares with squid (built with OpenSSL) and nginx: apt-get install squid-openssl nginx-light"
    return None


def mitmdump(place: Testbed, *, name: str = "mitmdump") -> Endpoint:
    folder, port = place.make_folder(name), free_port()
    shutil.copy(place.proxy_ca.cert_and_key, folder / "mitmproxy-ca.pem")
    options = {"confdir": folder, "ssl_verify_upstream_trusted_ca": place.target_ca.cert, "flow_detail": 1}
    args: list[str | Path] = [Path(sys.executable).with_name("mitmdump"), "-s", HERE / "header.py"]
    args += ["--listen-host", "127.0.0.1", "-p", str(port)]
    for option, value in options.items():
        args += ["--set", f"{option}={value}"]
    process = MeasuredProcess(args, folder / "log", env={"BENCH_TOKEN": place.token})
    process.wait_for_port(port)
    return Endpoint(name=name, process=process, proxy=f"127.0.0.1:{port}", target=place.target, ca=place.proxy_ca.cert)


def squid(place: Testbed) -> Endpoint:
    folder, port = place.make_folder("squid"), free_port()
    user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    subprocess.run([CERTGEN, "-c", "-s", folder / "certificates", "-M", "4MB"], check=True, capture_output=True)
    ca = folder / "ca.pem"
    shutil.copy(place.proxy_ca.cert_and_key, ca)
    ca.chmod(0o644)
    if os.geteuid() == 0:
        for path in (folder / "certificates").rglob("*"):
            shutil.chown(path, user)
        shutil.chown(folder / "certificates", user)
    config = _write_config(place, folder, "squid.conf", port=port, ca=ca, user=user, certgen=CERTGEN, logger=LOGGER)
    process = MeasuredProcess(["squid", "-N", "-f", config], folder / "log")
    process.wait_for_port(port)
    # Squid's generated certificates name DNS hosts only, so its target goes by name.
    target = place.target.replace("127.0.0.1", "localhost")
    return Endpoint(name="squid", process=process, proxy=f"127.0.0.1:{port}", target=target, ca=place.proxy_ca.cert)


def nginx(place: Testbed) -> Endpoint:
    folder, port = place.make_folder("nginx"), free_port()
    cert = place.proxy_ca.issue(folder / "server.pem")
    config = _write_config(place, folder, "nginx.conf", port=port, target=place.target, cert=cert)
    process = MeasuredProcess(["nginx", "-e", folder / "error.log", "-c", config, "-p", folder], folder / "log")
    process.wait_for_port(port)
    return Endpoint(name="nginx", process=process, proxy="", target=f"127.0.0.1:{port}", ca=place.proxy_ca.cert)


def no_proxy(place: Testbed) -> Endpoint:
    """The target itself, for callers that hold its credential; the process is one that does nothing."""
    process = MeasuredProcess(["sleep", "infinity"], place.make_folder("no-proxy") / "log")
    return Endpoint(
        name="no-proxy", process=process, proxy="", target=place.target, ca=place.target_ca.cert, bearer=place.token
    )


def _write_config(place: Testbed, folder: Path, name: str, **values: object) -> Path:
    text = Template((HERE / name).read_text()).substitute(
        directory=folder, token=place.token, target_ca=place.target_ca.cert, **values
    )
    path = folder / name
    path.write_text(text)
    return path
