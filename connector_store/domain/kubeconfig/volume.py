"""The volumeAttributes of a pod's volume -> a VolumeRequest.

What kubelet adds is named csi.storage.k8s.io/*, everything else is the pod author's. All mistakes are told at once,
each with its attribute and what to write instead. An empty attribute counts as absent.

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
from connector_store.domain.kubeconfig.volume_files import BUILT_IN, CONFIGURATIONS, NEEDED

KUBELET: Final = "csi.storage.k8s.io/"
POD_NAME: Final = KUBELET + "pod.name"
POD_NAMESPACE: Final = KUBELET + "pod.namespace"
POD_UID: Final = KUBELET + "pod.uid"
SERVICE_ACCOUNT: Final = KUBELET + "serviceAccount.name"
EPHEMERAL: Final = KUBELET + "ephemeral"

NAME: Final = "connector.name"
NAMESPACE: Final = "connector.namespace"
CONNECTORS: Final = "connectors"
CONFIGURATIONS_WANTED: Final = "configuration.names"
PARAMS: Final = "configuration.params"
EXPIRATION: Final = "token.expiration"
ATTRIBUTES: Final = (NAME, CONNECTORS, NAMESPACE, CONFIGURATIONS_WANTED, PARAMS, EXPIRATION)

MAX_ATTRIBUTE: Final = 4096
"""Characters; the CSI specification's size limit of a whole map (section "Size Limits")."""
MAX_CONNECTORS: Final = 32
"""So that every rendering fits twice into the volume's tmpfs."""
_SHOWN: Final = 80
"""Characters of a value that are told."""
_TOLD: Final = 5
"""Attributes that are told one by one where many have the same mistake: a pod has room for a hundred thousand."""
_FROM_KUBELET: Final = frozenset({POD_NAME, POD_NAMESPACE, POD_UID, SERVICE_ACCOUNT, EPHEMERAL, TOKENS_KEY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """Whose volume it is."""

    namespace: str
    name: str
    uid: str
    service_account: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRequest:
    """`expiration` is the token lifetime that the pod wishes for, in seconds.

    `ignored` says what the author wrote that does nothing, each with its attribute.
    """

    pod: Pod
    connectors: tuple[ObjectKey, ...]
    configurations: tuple[str, ...] = ()
    left_out: frozenset[str] = frozenset()
    expiration: float | None = None
    ignored: tuple[str, ...] = ()


def parse_volume(context: Mapping[str, str]) -> VolumeRequest:
    """Read the volume context of NodePublishVolume; one ParseError tells all that is wrong."""
    read = _Reader(context)
    pod = read.pod()
    read.unknown()
    connectors = read.connectors(pod.namespace)
    configurations, left_out = read.configurations()
    read.params()
    read.foreign()
    expiration = read.expiration()
    if read.problems:
        raise ParseError("", "; ".join(map(str, read.problems)))
    return VolumeRequest(
        pod=pod,
        connectors=connectors,
        configurations=configurations,
        left_out=left_out,
        expiration=expiration,
        ignored=tuple(read.ignored),
    )


def pod_of(context: Mapping[str, str]) -> Pod | None:
    """Whose volume it is, where all else may be wrong; None if kubelet did not say."""
    names = [context.get(key, "") for key in (POD_NAMESPACE, POD_NAME, POD_UID, SERVICE_ACCOUNT)]
    if not all(names):
        return None
    return Pod(namespace=names[0], name=names[1], uid=names[2], service_account=names[3])


def own_attributes(context: Mapping[str, str]) -> dict[str, str]:
    """What the pod's author wrote: the part that stays the same for as long as the volume lives."""
    return {key: value for key, value in context.items() if not key.startswith(KUBELET)}


class _Reader:
    def __init__(self, context: Mapping[str, str]) -> None:
        self.problems: list[ParseError] = []
        self.ignored: list[str] = []
        self._context = {key: value.strip() for key, value in context.items()}

    def pod(self) -> Pod:
        if self._context.get(EPHEMERAL) != "true":
            self._wrong(EPHEMERAL, 'is not "true"; use the driver in an inline volume of a pod, not a PersistentVolume')
        return Pod(
            namespace=self._from_kubelet(POD_NAMESPACE, is_dns_label),
            name=self._from_kubelet(POD_NAME, is_dns_subdomain),
            uid=self._from_kubelet(POD_UID, bool),
            service_account=self._from_kubelet(SERVICE_ACCOUNT, is_dns_subdomain),
        )

    def _from_kubelet(self, key: str, valid: Callable[[str], bool]) -> str:
        value = self._context.get(key, "")
        if not valid(value):
            self._wrong(key, "is missing or not a name; the CSIDriver object must have spec.podInfoOnMount: true")
        return value

    def unknown(self) -> None:
        unknown = sorted(own_attributes(self._context).keys() - set(ATTRIBUTES))
        for key in unknown[:_TOLD]:
            self._wrong(_shown(key), "is not an attribute; use " + ", ".join(ATTRIBUTES))
        if unknown[_TOLD:]:
            self._wrong("", f"{len(unknown) - _TOLD} more are no attributes either")
        for key in ATTRIBUTES:
            if len(self._context.get(key, "")) > MAX_ATTRIBUTE:
                self._wrong(key, f"is longer than {MAX_ATTRIBUTE} characters")
                self._context[key] = self._context[key][:MAX_ATTRIBUTE]

    def connectors(self, pod_namespace: str) -> tuple[ObjectKey, ...]:
        namespace = self._context.get(NAMESPACE) or pod_namespace
        if self._context.get(NAMESPACE) and not is_dns_label(namespace):
            self._wrong(NAMESPACE, f"{_shown(namespace)} is not the name of a namespace")
        name, several = self._context.get(NAME), self._context.get(CONNECTORS)
        if name and several:
            self._wrong(NAME, f"and {CONNECTORS} are both given; keep one of them")
        elif name:
            if not is_dns_subdomain(name):
                self._wrong(NAME, f"{_shown(name)} is not the name of a Connector; for NAMESPACE/NAME use {CONNECTORS}")
            return (ObjectKey(namespace, name),)
        elif several:
            return self._several(several, namespace)
        else:
            self._wrong(NAME, "is missing; write the name of a Connector")
        return ()

    def _several(self, text: str, namespace: str) -> tuple[ObjectKey, ...]:
        keys: list[ObjectKey] = []
        for part in _list(text):
            try:
                key = ObjectKey.parse(part if "/" in part else f"{namespace}/{part}")
            except ParseError:
                self._wrong(CONNECTORS, f"{_shown(part)} is neither NAME nor NAMESPACE/NAME")
                continue
            if key in keys:
                self._wrong(CONNECTORS, f"{_shown(part)} is there twice")
            keys.append(key)
        if not _list(text):
            self._wrong(CONNECTORS, "names no Connector")
        if len(keys) > MAX_CONNECTORS:
            self._wrong(CONNECTORS, f"names {len(keys)} Connectors; a volume has at most {MAX_CONNECTORS}")
        return tuple(keys)

    def configurations(self) -> tuple[tuple[str, ...], frozenset[str]]:
        names = _list(self._context.get(CONFIGURATIONS_WANTED, ""))
        wanted = tuple(dict.fromkeys(each for each in names if not each.startswith("!")))
        left_out = frozenset(each[1:] for each in names if each.startswith("!"))
        for each in wanted:
            if each not in CONFIGURATIONS:
                known = ", ".join(CONFIGURATIONS)
                self._wrong(CONFIGURATIONS_WANTED, f"{_shown(each)} is not a configuration; use {known}")
        for each in sorted(left_out - set(BUILT_IN)):
            known = ", ".join(BUILT_IN)
            self._wrong(CONFIGURATIONS_WANTED, f"!{_shown(each)} leaves out no built-in file; those are {known}")
        for each in wanted:
            for file in NEEDED.get(each, ()):
                if file in left_out:
                    self._wrong(CONFIGURATIONS_WANTED, f"!{file} leaves out the file that {each} reads")
        return wanted, left_out

    def params(self) -> None:
        text = self._context.get(PARAMS)
        if not text:
            return
        try:
            params = json.loads(text)
        except (ValueError, RecursionError):
            params = None
        if not isinstance(params, dict):
            self._wrong(PARAMS, 'is not a JSON object; write {"CONFIGURATION": {"NAME": "VALUE"}}')
        elif params:
            self.ignored.append(f"{PARAMS}: no configuration has parameters")

    def foreign(self) -> None:
        """Attributes with kubelet's prefix that kubelet does not send; a newer one may, so they are no mistake."""
        unknown = sorted(key for key in self._context if key.startswith(KUBELET) and key not in _FROM_KUBELET)
        self.ignored += [
            f"{_shown(key)}: the prefix is kubelet's, which has none of that name" for key in unknown[:_TOLD]
        ]
        if unknown[_TOLD:]:
            self.ignored.append(f"{len(unknown) - _TOLD} more with kubelet's prefix {KUBELET}")

    def expiration(self) -> float | None:
        text = self._context.get(EXPIRATION)
        if not text:
            return None
        try:
            return parse_duration(text)
        except ParseError as error:
            self._wrong(EXPIRATION, f"{_shown(text)} {error.reason}")
            return None

    def _wrong(self, attribute: str, reason: str) -> None:
        self.problems.append(ParseError(attribute, reason))


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _shown(text: str) -> str:
    """A value in an error: what can be seen, and not all of something endless."""
    return ascii(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
