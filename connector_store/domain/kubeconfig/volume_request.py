"""Parser of the volumeAttributes of a pod's volume.

Attributes named csi.storage.k8s.io/* are from kubelet. All others are from the pod's author. One error reports all
problems, each with its attribute and how to fix it. An empty attribute counts as absent.

>>> pod = {POD_NAME: "p", POD_NAMESPACE: "team-a", POD_UID: "u", SERVICE_ACCOUNT: "default", EPHEMERAL: "true"}
>>> request = parse_volume(pod | {"connector.name": "k8s", "configuration.names": "kubeconfig"})
>>> request.connectors, request.configurations
((ObjectKey(namespace='team-a', name='k8s'),), ('kubeconfig',))
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from connector_store.domain.base.duration import parse_duration
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey, is_dns_label, is_dns_subdomain
from connector_store.domain.callers.pod_token import TOKENS_KEY
from connector_store.domain.kubeconfig.volume_files import BUILT_IN_FILES, REQUIRED_FILES
from connector_store.domain.objects.builtin import CONFIGURATIONS

KUBELET_PREFIX: Final = "csi.storage.k8s.io/"
POD_NAME: Final = KUBELET_PREFIX + "pod.name"
POD_NAMESPACE: Final = KUBELET_PREFIX + "pod.namespace"
POD_UID: Final = KUBELET_PREFIX + "pod.uid"
SERVICE_ACCOUNT: Final = KUBELET_PREFIX + "serviceAccount.name"
EPHEMERAL: Final = KUBELET_PREFIX + "ephemeral"

CONNECTOR_NAME: Final = "connector.name"
CONNECTOR_NAMESPACE: Final = "connector.namespace"
CONNECTORS: Final = "connectors"
CONFIGURATION_NAMES: Final = "configuration.names"
CONFIGURATION_PARAMS: Final = "configuration.params"
EXPIRATION: Final = "token.expiration"
ATTRIBUTES: Final = (
    CONNECTOR_NAME,
    CONNECTORS,
    CONNECTOR_NAMESPACE,
    CONFIGURATION_NAMES,
    CONFIGURATION_PARAMS,
    EXPIRATION,
)

MAX_ATTRIBUTE: Final = 4096
"""Maximum characters of a value. It is the CSI specification's limit for a whole map (section "Size Limits")."""
MAX_CONNECTORS: Final = 32
"""Maximum number of Connectors. The volume's tmpfs must have room for two copies of each file."""
_MAX_QUOTED: Final = 80
"""Maximum characters of a value in an error."""
_MAX_REPORTED: Final = 5
"""Maximum number of attributes that are reported one by one for the same problem. A pod can have 100,000."""
_KUBELET_ATTRIBUTES: Final = frozenset({POD_NAME, POD_NAMESPACE, POD_UID, SERVICE_ACCOUNT, EPHEMERAL, TOKENS_KEY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """The pod of a volume."""

    namespace: str
    name: str
    uid: str
    service_account: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRequest:
    """Volume that a pod requests. `token_expiration` is the requested token lifetime in seconds.

    `warnings` report attributes that have no effect.
    """

    pod: Pod
    connectors: tuple[ObjectKey, ...]
    configurations: tuple[str, ...] = ()
    excluded_files: frozenset[str] = frozenset()
    token_expiration: float | None = None
    warnings: tuple[str, ...] = ()


def parse_volume(context: Mapping[str, str]) -> VolumeRequest:
    """Parse the volume context of NodePublishVolume. One ParseError reports all problems."""
    parser = _VolumeParser(context)
    pod = parser.pod()
    parser.check_attributes()
    connectors = parser.connectors(pod.namespace)
    configurations, excluded_files = parser.configurations()
    parser.check_params()
    parser.check_kubelet_attributes()
    expiration = parser.expiration()
    if parser.problems:
        raise ParseError("", "; ".join(map(str, parser.problems)))
    return VolumeRequest(
        pod=pod,
        connectors=connectors,
        configurations=configurations,
        excluded_files=excluded_files,
        token_expiration=expiration,
        warnings=tuple(parser.warnings),
    )


def parse_pod(context: Mapping[str, str]) -> Pod | None:
    """Return the pod without validation, or None if kubelet did not send all of its attributes."""
    names = [context.get(key, "") for key in (POD_NAMESPACE, POD_NAME, POD_UID, SERVICE_ACCOUNT)]
    if not all(names):
        return None
    return Pod(namespace=names[0], name=names[1], uid=names[2], service_account=names[3])


def author_attributes(context: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes from the pod's author. They do not change while the volume exists."""
    return {key: value for key, value in context.items() if not key.startswith(KUBELET_PREFIX)}


class _VolumeParser:
    def __init__(self, context: Mapping[str, str]) -> None:
        self.problems: list[ParseError] = []
        self.warnings: list[str] = []
        self._context = {key: value.strip() for key, value in context.items()}

    def pod(self) -> Pod:
        if self._context.get(EPHEMERAL) != "true":
            self._add_problem(
                EPHEMERAL, 'is not "true"; use the driver in an inline volume of a pod, not a PersistentVolume'
            )
        return Pod(
            namespace=self._from_kubelet(POD_NAMESPACE, is_dns_label),
            name=self._from_kubelet(POD_NAME, is_dns_subdomain),
            uid=self._from_kubelet(POD_UID, bool),
            service_account=self._from_kubelet(SERVICE_ACCOUNT, is_dns_subdomain),
        )

    def _from_kubelet(self, key: str, valid: Callable[[str], bool]) -> str:
        value = self._context.get(key, "")
        if not valid(value):
            self._add_problem(key, "is missing or not a name; the CSIDriver object must have spec.podInfoOnMount: true")
        return value

    def check_attributes(self) -> None:
        unknown = sorted(author_attributes(self._context).keys() - set(ATTRIBUTES))
        for key in unknown[:_MAX_REPORTED]:
            self._add_problem(_quote(key), "is not an attribute; use " + ", ".join(ATTRIBUTES))
        if unknown[_MAX_REPORTED:]:
            self._add_problem("", f"{len(unknown) - _MAX_REPORTED} more are no attributes either")
        for key in ATTRIBUTES:
            if len(self._context.get(key, "")) > MAX_ATTRIBUTE:
                self._add_problem(key, f"is longer than {MAX_ATTRIBUTE} characters")
                self._context[key] = self._context[key][:MAX_ATTRIBUTE]

    def connectors(self, pod_namespace: str) -> tuple[ObjectKey, ...]:
        namespace = self._context.get(CONNECTOR_NAMESPACE) or pod_namespace
        if self._context.get(CONNECTOR_NAMESPACE) and not is_dns_label(namespace):
            self._add_problem(CONNECTOR_NAMESPACE, f"{_quote(namespace)} is not the name of a namespace")
        name, connectors_text = self._context.get(CONNECTOR_NAME), self._context.get(CONNECTORS)
        if name and connectors_text:
            self._add_problem(CONNECTOR_NAME, f"and {CONNECTORS} are both given; keep one of them")
        elif name:
            if not is_dns_subdomain(name):
                self._add_problem(
                    CONNECTOR_NAME,
                    f"{_quote(name)} is not the name of a Connector; for NAMESPACE/NAME use {CONNECTORS}",
                )
            return (ObjectKey(namespace, name),)
        elif connectors_text:
            return self._parse_connectors(connectors_text, namespace)
        else:
            self._add_problem(CONNECTOR_NAME, "is missing; write the name of a Connector")
        return ()

    def _parse_connectors(self, text: str, namespace: str) -> tuple[ObjectKey, ...]:
        keys: list[ObjectKey] = []
        for part in _split_list(text):
            try:
                key = ObjectKey.parse(part if "/" in part else f"{namespace}/{part}")
            except ParseError:
                self._add_problem(CONNECTORS, f"{_quote(part)} is neither NAME nor NAMESPACE/NAME")
                continue
            if key in keys:
                self._add_problem(CONNECTORS, f"{_quote(part)} is there twice")
            keys.append(key)
        if not _split_list(text):
            self._add_problem(CONNECTORS, "names no Connector")
        if len(keys) > MAX_CONNECTORS:
            self._add_problem(CONNECTORS, f"names {len(keys)} Connectors; a volume has at most {MAX_CONNECTORS}")
        return tuple(keys)

    def configurations(self) -> tuple[tuple[str, ...], frozenset[str]]:
        names = _split_list(self._context.get(CONFIGURATION_NAMES, ""))
        selected = tuple(dict.fromkeys(name for name in names if not name.startswith("!")))
        excluded_files = frozenset(name[1:] for name in names if name.startswith("!"))
        for configuration in selected:
            if configuration not in CONFIGURATIONS:
                choices = ", ".join(CONFIGURATIONS)
                self._add_problem(CONFIGURATION_NAMES, f"{_quote(configuration)} is not a configuration; use {choices}")
        for file in sorted(excluded_files - set(BUILT_IN_FILES)):
            choices = ", ".join(BUILT_IN_FILES)
            self._add_problem(CONFIGURATION_NAMES, f"!{_quote(file)} leaves out no built-in file; those are {choices}")
        for configuration in selected:
            for file in REQUIRED_FILES.get(configuration, ()):
                if file in excluded_files:
                    self._add_problem(CONFIGURATION_NAMES, f"!{file} leaves out the file that {configuration} reads")
        return selected, excluded_files

    def check_params(self) -> None:
        text = self._context.get(CONFIGURATION_PARAMS)
        if not text:
            return
        try:
            params = json.loads(text)
        except (ValueError, RecursionError):
            params = None
        if not isinstance(params, dict):
            self._add_problem(CONFIGURATION_PARAMS, 'is not a JSON object; write {"CONFIGURATION": {"NAME": "VALUE"}}')
        elif params:
            self.warnings.append(f"{CONFIGURATION_PARAMS}: no configuration has parameters")

    def check_kubelet_attributes(self) -> None:
        """Warn about unknown attributes with kubelet's prefix. They are not errors: a newer kubelet may send them."""
        unknown = sorted(
            key for key in self._context if key.startswith(KUBELET_PREFIX) and key not in _KUBELET_ATTRIBUTES
        )
        self.warnings += [
            f"{_quote(key)}: the prefix is kubelet's, which has none of that name" for key in unknown[:_MAX_REPORTED]
        ]
        if unknown[_MAX_REPORTED:]:
            self.warnings.append(f"{len(unknown) - _MAX_REPORTED} more with kubelet's prefix {KUBELET_PREFIX}")

    def expiration(self) -> float | None:
        text = self._context.get(EXPIRATION)
        if not text:
            return None
        try:
            return parse_duration(text)
        except ParseError as error:
            self._add_problem(EXPIRATION, f"{_quote(text)} {error.reason}")
            return None

    def _add_problem(self, attribute: str, reason: str) -> None:
        self.problems.append(ParseError(attribute, reason))


def _split_list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _quote(text: str) -> str:
    """Quote a value for an error: printable and shortened."""
    return ascii(text if len(text) <= _MAX_QUOTED else text[:_MAX_QUOTED] + "…")
