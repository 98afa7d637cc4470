"""A real Prometheus outside the node: it scrapes the programs' pods every second, with the rules of monitoring/."""

import json
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from lab.ports import Port
from lab.process import Process
from tests.journey.product import NAMESPACES, SYSTEM, Product
from tests.monitoring.queries import MONITORING

PROGRAMS = {"connectors-proxy": 9091, "connectors-controller": 9091, "connectors-csi": 9091}
"""Pods by app.kubernetes.io/name, and their admin port."""
INTERVAL = "1s"
START_TIMEOUT = 180.0


class Prometheus:
    def __init__(self, program: Path, folder: Path, product: Product) -> None:
        self._product = product
        self._port = Port()
        address = f"127.0.0.1:{self._port.number}"
        self.url = f"http://{address}"
        (folder / "rules.yaml").write_text(_with_short_interval((MONITORING / "rules.yaml").read_text()))
        (folder / "prometheus.yml").write_text(yaml.safe_dump(self._configuration()))
        self.process = Process(
            [
                program,
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address={address}",
            ],
            log=folder / "prometheus.log",
        )

    def close(self) -> None:
        self.process.stop()
        self._port.release()

    def start(self) -> None:
        self.process.start()
        self.process.wait_until(self._ready, timeout=START_TIMEOUT)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the instant vector. Variables have the values that Grafana puts there for All."""
        expression = expression.replace("$__rate_interval", "1m")
        for variable in ("$namespace", "$name", "$pod"):
            expression = expression.replace(variable, ".*")
        parameters = urllib.parse.urlencode({"query": expression})
        result: list[dict[str, Any]] = self._get(f"/api/v1/query?{parameters}")["data"]["result"]
        return result

    def unhealthy_rules(self) -> list[str]:
        groups = self._get("/api/v1/rules")["data"]["groups"]
        return [
            f"{rule['name']}: {rule.get('lastError')}"
            for group in groups
            for rule in group["rules"]
            if rule["health"] != "ok"
        ]

    def _ready(self) -> bool:
        try:
            return bool(self._get("/api/v1/targets")["data"]["activeTargets"])
        except OSError:
            return False

    def _get(self, path: str) -> Any:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.url + path, timeout=120) as answer:
            return json.load(answer)

    def _configuration(self) -> dict[str, Any]:
        kubectl = self._product.kubectl
        jobs = []
        for name, port in PROGRAMS.items():
            namespace = SYSTEM if name != "connectors-csi" else NAMESPACES[1]
            selector = f"app.kubernetes.io/name={name}"
            addresses = kubectl(
                "get", "pods", "-l", selector, "-o", "jsonpath={.items[*].status.podIP}", namespace=namespace
            ).split()
            assert addresses, self._product.state()
            targets = [f"{each}:{port}" for each in addresses]
            jobs.append({"job_name": name, "honor_labels": True, "static_configs": [{"targets": targets}]})
        return {
            "global": {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL},
            "rule_files": ["rules.yaml"],
            "scrape_configs": jobs,
        }


def _with_short_interval(rules: str) -> str:
    """The same rules, evaluated as often as is scraped."""
    text = yaml.safe_load(rules)
    for group in text["groups"]:
        group["interval"] = INTERVAL
    return yaml.safe_dump(text)
