"""Example manifests of `connectorctl init`: one Connector and its Secret."""

from pathlib import Path
from textwrap import indent
from typing import Final

import yaml

from connector_store.private_files import create_private
from connectorctl.importer import build_agent_permissions

FILE_NAME: Final = "k8s-connector.yaml"
MANIFESTS: Final = """\
# The credential. Only the proxy reads it; callers never see it.
apiVersion: v1
kind: Secret
metadata:
  name: k8s-secret
  namespace: default
type: connectors.cpaas.io/bearer-token
stringData:
  # A token of the target cluster: kubectl create token NAME --duration 168h
  token: REPLACE-WITH-A-TOKEN
  # The target's CA, unless a public one signed its certificate:
  # ca.crt: |
  #   -----BEGIN CERTIFICATE-----
---
# What callers may reach with it: this address and nothing else.
apiVersion: connectors.alauda.io/v1alpha1
kind: Connector
metadata:
  name: k8s-connector
  namespace: default
spec:
  connectorClassName: k8s
  address: https://k8s.example:6443
  auth:
    name: bearerTokenAuth
    secretRef:
      name: k8s-secret
"""


def write_example(folder: Path, *, is_for_agent: bool = False) -> Path:
    """Write the example into `folder` (mode 0700, because it holds credentials). One for an agent masks Secrets.

    Raises FileExistsError if the example exists.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / FILE_NAME
    limits = yaml.safe_dump({"permissions": build_agent_permissions()}, sort_keys=False) if is_for_agent else ""
    create_private(path, MANIFESTS + indent(limits, "  "))
    return path
