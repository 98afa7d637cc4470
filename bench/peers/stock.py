"""The peers mitmdump, squid and nginx, each with its configuration in this folder."""

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
    """Return a message that names the missing packages, or None."""
    if not (shutil.which("squid") and CERTGEN.exists() and shutil.which("nginx")):
        return "bench compares with squid (built with OpenSSL) and nginx: apt-get install squid-openssl nginx-light"
    return None


def mitmdump(testbed: Testbed, *, name: str = "mitmdump") -> Endpoint:
    folder, port = testbed.make_folder(name), free_port()
    shutil.copy(testbed.proxy_ca.cert_and_key, folder / "mitmproxy-ca.pem")
    options = {"confdir": folder, "ssl_verify_upstream_trusted_ca": testbed.target_ca.cert, "flow_detail": 1}
    args: list[str | Path] = [Path(sys.executable).with_name("mitmdump"), "-s", HERE / "inject_header.py"]
    args += ["--listen-host", "127.0.0.1", "-p", str(port)]
    for option, value in options.items():
        args += ["--set", f"{option}={value}"]
    process = MeasuredProcess(args, folder / "log", env={"BENCH_TOKEN": testbed.token})
    process.wait_for_port(port)
    return Endpoint(
        name=name, process=process, proxy=f"127.0.0.1:{port}", target=testbed.target, ca=testbed.proxy_ca.cert
    )


def squid(testbed: Testbed, *, is_tuned: bool = False) -> Endpoint:
    """Start squid with its distribution's log daemon, or as an expert tunes it: it writes a buffered log itself."""
    name = "tuned-squid" if is_tuned else "squid"
    folder, port = testbed.make_folder(name), free_port()
    user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    subprocess.run([CERTGEN, "-c", "-s", folder / "certificates", "-M", "4MB"], check=True, capture_output=True)
    ca = folder / "ca.pem"
    shutil.copy(testbed.proxy_ca.cert_and_key, ca)
    ca.chmod(0o644)
    if os.geteuid() == 0:
        for path in (folder / "certificates").rglob("*"):
            shutil.chown(path, user)
        shutil.chown(folder / "certificates", user)
    logs = (
        {"log_module": "stdio", "buffered_logs": "on"} if is_tuned else {"log_module": "daemon", "buffered_logs": "off"}
    )
    config = _write_config(
        testbed, folder, "squid.conf", port=port, ca=ca, user=user, certgen=CERTGEN, logger=LOGGER, **logs
    )
    process = MeasuredProcess(["squid", "-N", "-f", config], folder / "log")
    process.wait_for_port(port)
    # Squid's generated certificates name DNS hosts only, so its target goes by name.
    target = testbed.target.replace("127.0.0.1", "localhost")
    return Endpoint(name=name, process=process, proxy=f"127.0.0.1:{port}", target=target, ca=testbed.proxy_ca.cert)


def nginx(testbed: Testbed) -> Endpoint:
    folder, port = testbed.make_folder("nginx"), free_port()
    cert = testbed.proxy_ca.issue(folder / "server.pem")
    config = _write_config(testbed, folder, "nginx.conf", port=port, target=testbed.target, cert=cert)
    process = MeasuredProcess(["nginx", "-e", folder / "error.log", "-c", config, "-p", folder], folder / "log")
    process.wait_for_port(port)
    return Endpoint(name="nginx", process=process, proxy="", target=f"127.0.0.1:{port}", ca=testbed.proxy_ca.cert)


def no_proxy(testbed: Testbed) -> Endpoint:
    """Return the target itself, for clients that have its credential. The process of this peer does nothing."""
    process = MeasuredProcess(["sleep", "infinity"], testbed.make_folder("no-proxy") / "log")
    return Endpoint(
        name="no-proxy",
        process=process,
        proxy="",
        target=testbed.target,
        ca=testbed.target_ca.cert,
        bearer=testbed.token,
    )


def _write_config(testbed: Testbed, folder: Path, name: str, **values: object) -> Path:
    text = Template((HERE / name).read_text()).substitute(
        directory=folder, token=testbed.token, target_ca=testbed.target_ca.cert, **values
    )
    path = folder / name
    path.write_text(text)
    return path
