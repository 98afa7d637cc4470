"""Management of the proxy's CA: create it once, publish it, and rotate it in steps (`rotation_plan`).

Annotations of the Secret (its data: see `connector_store.ca_secret`):

    connectors.alauda.io/rotate         set by an administrator, to any value, to start a rotation. Removed at its start
    connectors.alauda.io/ca-announced   RFC 3339: `next.pem` is published since then
    connectors.alauda.io/ca-switched    RFC 3339: the CA signs since then, and the previous CA is still published

If a CA is published and its Secret is gone, the controller waits for the Secret. Another CA would cut off every client
that trusts the published one. Delete the ConfigMap too, and the controller creates a new CA.

A Secret without the label app.kubernetes.io/managed-by=connectors-controller belongs to a user. Its CA is published and
never replaced by a new one. If the owner puts a CA under `next.pem`, it becomes the signing CA by the same steps.
"""

import base64
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from cryptography import x509

from connector_controller.ca_certificates import create_ca, cross_sign, utc
from connector_store.ca_secret import TLS_TYPE, has_signer, published_certificates, read_data, read_signer, to_pem
from connector_store.domain.base import rfc3339
from connector_store.domain.base.errors import ParseError
from connector_store.domain.config.settings import Settings
from connector_store.domain.kubeconfig.proxy_service import MANAGED_BY, MANAGER
from connector_store.domain.status.rotation_plan import (
    NEXT_CA_KEY,
    PUBLISHED_CA_KEY,
    SIGNING_CA_KEY,
    CaState,
    RotationStep,
    plan_rotation,
)
from connector_store.kube.client import KubeClient
from connector_store.kube.resources import CONFIG_MAPS, SECRETS

logger = logging.getLogger(__name__)

ROTATE_ANNOTATION: Final = "connectors.alauda.io/rotate"
ANNOUNCED_ANNOTATION: Final = "connectors.alauda.io/ca-announced"
SWITCHED_ANNOTATION: Final = "connectors.alauda.io/ca-switched"

MAX_REQUEUE: Final = 86400.0
"""Maximum seconds to the next check, even if the next step is later. A change of the clock does not move a timer."""

Raw = Mapping[str, Any]


class CaRotation:
    """Reconciler of the CA's Secret and its ConfigMap.

    The watches set `secret` and `config_map`. `on_published` is called when `published_pem` has changed.
    """

    def __init__(
        self,
        client: KubeClient,
        settings: Settings,
        *,
        now: Callable[[], float],
        on_published: Callable[[], None],
    ) -> None:
        self.secret: Raw | None = None
        self.config_map: Raw | None = None
        self.published_pem: bytes | None = None
        """CA certificates that callers must trust. None while the CA is not available."""
        self.expires_at: float | None = None
        """Expiry of the signing CA, in unix seconds."""
        self._client = client
        self._settings = settings
        self._now = now
        self._on_published = on_published
        self._problem = ""

    @property
    def is_unusable(self) -> bool:
        """The Secret is missing while its CA is published, or it is invalid."""
        return bool(self._problem)

    async def reconcile(self, _: str) -> float | None:
        """Run the next step. Return the seconds until the step after it is due."""
        if self._settings.ca_secret is None:
            self._publish(_config_map_pem(self.config_map) or None)
            return None
        try:
            # Use one state for the decision and the write. If a watch brings a newer state meanwhile, another run
            # handles it, and the older version makes this write fail.
            return await self._reconcile_ca(self.secret, self.config_map)
        except ParseError as error:
            # Keep what is published, because it belongs to the CA that the proxies still use.
            self._log_problem(f"secrets {self._settings.ca_secret}: {error}")
            return None

    async def _reconcile_ca(self, secret: Raw | None, config_map: Raw | None) -> float | None:
        data = read_data(secret or {})
        if not has_signer(data):
            self._require_first_ca(secret, config_map)
            await self._create(secret)
            self._log_problem("")
            return None
        certificates = published_certificates(data)
        signer = read_signer(data, SIGNING_CA_KEY)
        self._log_problem("")
        self.expires_at = signer.expires_at
        pem = to_pem(*certificates)
        self._publish(pem)
        await self._ensure_config_map(config_map, pem)
        now = self._now()
        next_plan = plan_rotation(self._ca_state(secret, config_map, data), now, self._settings.ca_overlap)
        if next_plan.step is not RotationStep.WAIT:
            logger.info("CA: %s", next_plan.step.value)
        await self._run_step(next_plan.step, secret, data, certificates, utc(now))
        return None if next_plan.due_at is None else min(max(0.0, next_plan.due_at - now), MAX_REQUEUE)

    def _require_first_ca(self, secret: Raw | None, config_map: Raw | None) -> None:
        """Raise ParseError if a CA exists, or comes from somewhere else."""
        published = _config_map_pem(config_map)
        if published:
            self._publish(self.published_pem or published)
            raise ParseError(
                "",
                f'has no CA, but configmaps "{self._settings.ca_configmap}" publishes one; restore the Secret from its '
                "backup, or delete that ConfigMap to create another CA, which all callers must then trust",
            )
        if (secret or {}).get("type") == TLS_TYPE:
            raise ParseError("data[tls.crt]", "has no CA yet; wait for the program that writes this Secret")

    def _ca_state(self, secret: Raw | None, config_map: Raw | None, data: Mapping[str, bytes]) -> CaState:
        annotations = _metadata(secret).get("annotations") or {}
        config_map_pem = _config_map_pem(config_map)
        return CaState(
            expires_at=self.expires_at,
            is_own=(_metadata(secret).get("labels") or {}).get(MANAGED_BY) == MANAGER,
            rotation_requested=ROTATE_ANNOTATION in annotations,
            has_next=NEXT_CA_KEY in data,
            next_is_published=NEXT_CA_KEY in data
            and to_pem(read_signer(data, NEXT_CA_KEY).certificate) in config_map_pem,
            announced_at=rfc3339.parse_time(annotations.get(ANNOUNCED_ANNOTATION)),
            switched_at=rfc3339.parse_time(annotations.get(SWITCHED_ANNOTATION)),
        )

    async def _run_step(
        self,
        step: RotationStep,
        secret: Raw | None,
        data: Mapping[str, bytes],
        certificates: tuple[x509.Certificate, ...],
        now: datetime,
    ) -> None:
        match step:
            case RotationStep.ANNOUNCE:
                new = create_ca(now)
                all_certificates = (certificates[0], new.certificate, *certificates[1:])
                await self._patch(
                    secret,
                    {ROTATE_ANNOTATION: None},
                    {NEXT_CA_KEY: new.to_pem(), PUBLISHED_CA_KEY: to_pem(*all_certificates)},
                )
            case RotationStep.STAMP:
                name = ANNOUNCED_ANNOTATION if NEXT_CA_KEY in data else SWITCHED_ANNOTATION
                await self._patch(secret, {name: rfc3339.format_time(now)}, {PUBLISHED_CA_KEY: to_pem(*certificates)})
            case RotationStep.SWITCH:
                old, new = read_signer(data, SIGNING_CA_KEY), read_signer(data, NEXT_CA_KEY)
                others = (each for each in certificates if each != new.certificate)
                content = {
                    SIGNING_CA_KEY: cross_sign(old, new, now).to_pem(),
                    PUBLISHED_CA_KEY: to_pem(new.certificate, *others),
                    NEXT_CA_KEY: None,
                }
                await self._patch(
                    secret, {ANNOUNCED_ANNOTATION: None, SWITCHED_ANNOTATION: rfc3339.format_time(now)}, content
                )
            case RotationStep.RETIRE:
                await self._patch(secret, {SWITCHED_ANNOTATION: None}, {PUBLISHED_CA_KEY: to_pem(certificates[0])})
            case RotationStep.REFUSE:
                logger.warning(
                    "the CA is not rotated, because it is your own; put the next CA into the Secret as %s", NEXT_CA_KEY
                )
                await self._patch(secret, {ROTATE_ANNOTATION: None}, {})
            case RotationStep.CREATE | RotationStep.WAIT:
                return

    async def _create(self, secret: Raw | None) -> None:
        signer = create_ca(utc(self._now()))
        content = {SIGNING_CA_KEY: signer.to_pem(), PUBLISHED_CA_KEY: to_pem(signer.certificate)}
        logger.info(
            "CA: create %s in secrets %s", signer.certificate.subject.rfc4514_string(), self._settings.ca_secret
        )
        if secret is not None:
            # The Secret has no CA. Do not change its other keys.
            await self._patch(secret, {}, content, labels={MANAGED_BY: MANAGER})
            return
        name = str(self._settings.ca_secret)
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "labels": {MANAGED_BY: MANAGER}},
            "type": "Opaque",
            "data": _encode(content),
        }
        await self._client.create(SECRETS.path(self._settings.system_namespace), body)

    async def _patch(
        self,
        secret: Raw | None,
        annotations: Mapping[str, str | None],
        content: Mapping[str, bytes | None],
        labels: Mapping[str, str] | None = None,
    ) -> None:
        metadata: dict[str, Any] = {
            "resourceVersion": _metadata(secret).get("resourceVersion"),
            "annotations": dict(annotations),
        }
        if labels:
            metadata["labels"] = dict(labels)
        path = SECRETS.path(self._settings.system_namespace, self._settings.ca_secret)
        await self._client.patch(path, {"metadata": metadata, "data": _encode(content)})

    async def _ensure_config_map(self, config_map: Raw | None, pem: bytes) -> None:
        if _config_map_pem(config_map) == pem:
            return
        namespace, name = self._settings.system_namespace, self._settings.ca_configmap
        data = {PUBLISHED_CA_KEY: pem.decode("ascii")}
        if config_map is None:
            metadata = {"name": name, "labels": {MANAGED_BY: MANAGER}}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            await self._client.create(CONFIG_MAPS.path(namespace), body)
            return
        version = {"resourceVersion": _metadata(config_map).get("resourceVersion")}
        await self._client.patch(CONFIG_MAPS.path(namespace, name), {"metadata": version, "data": data})

    def _publish(self, pem: bytes | None) -> None:
        if pem != self.published_pem:
            self.published_pem = pem
            self._on_published()

    def _log_problem(self, problem: str) -> None:
        if problem and problem != self._problem:
            logger.error("%s; the CA does not change until this is fixed", problem)
        self._problem = problem


def _metadata(raw: Raw | None) -> Raw:
    metadata = (raw or {}).get("metadata")
    return metadata if isinstance(metadata, Mapping) else {}


def _encode(content: Mapping[str, bytes | None]) -> dict[str, str | None]:
    return {key: None if value is None else base64.b64encode(value).decode() for key, value in content.items()}


def _config_map_pem(config_map: Raw | None) -> bytes:
    text = ((config_map or {}).get("data") or {}).get(PUBLISHED_CA_KEY)
    return text.encode() if isinstance(text, str) else b""
