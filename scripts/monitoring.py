"""Write the rules of monitoring/rules.yaml as a PrometheusRule to deploy/components/prometheusrule."""

import sys
from pathlib import Path

import yaml
from usage import show_help

ROOT = Path(__file__).parents[1]
RULES = ROOT / "monitoring" / "rules.yaml"
OBJECT = ROOT / "deploy" / "components" / "prometheusrule" / "prometheusrule.yaml"
HEAD = """\
# Written by scripts/monitoring.py from monitoring/rules.yaml: change that, and run it.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: kubernetes-connector
  namespace: connectors-system
  labels: {app.kubernetes.io/part-of: kubernetes-connector}
spec:
"""


def render_rule() -> str:
    groups = yaml.safe_dump(yaml.safe_load(RULES.read_text()), sort_keys=False, width=1000, allow_unicode=True)
    return HEAD + "".join(f"  {line}\n" for line in groups.splitlines())


if __name__ == "__main__" and not show_help(sys.argv[1:], __doc__):
    OBJECT.write_text(render_rule())
