"""Validation of client certificates: the key belongs to the certificate, and the expiry is read."""

from dataclasses import replace

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from connector_store.domain.base.errors import ParseError
from connector_store.domain.credential.client_certificate import CERTIFICATE_KEY, PRIVATE_KEY, ClientCertificate
from connector_store.domain.credential.credentials import InvalidKeyError
from connector_store.domain.objects.manifest_secret import secret_problem
from connector_store.domain.objects.models import Secret
from connector_store.trust import PrivateKey


def validate_secret[T](obj: T) -> T | Secret:
    """Return `obj`. If it is a Secret with a client certificate, set the certificate's expiry or its problem."""
    if not isinstance(obj, Secret) or not isinstance(obj.credential, ClientCertificate):
        return obj
    try:
        return replace(obj, credential=validate_certificate(obj.credential))
    except ParseError as error:
        return replace(obj, credential=None, credential_problem=secret_problem(error))


def validate_certificate(certificate: ClientCertificate) -> ClientCertificate:
    """Return `certificate` with its expiry. The ParseError names the key of the Secret and does not quote it."""
    try:
        chain = x509.load_pem_x509_certificates(certificate.chain)
    except ValueError:
        reason = "has a certificate that cannot be read; renew it from its source"
        raise InvalidKeyError(CERTIFICATE_KEY, reason) from None
    try:
        key = load_pem_private_key(certificate.key, None)
    except (ValueError, TypeError):
        raise InvalidKeyError(PRIVATE_KEY, "cannot be read as a private key; renew it from its source") from None
    if not isinstance(key, PrivateKey):
        raise InvalidKeyError(PRIVATE_KEY, "is of a kind that TLS does not take; use RSA, EC or Ed25519")
    if key.public_key() != chain[0].public_key():
        raise InvalidKeyError(PRIVATE_KEY, f"belongs to another certificate than the first of {CERTIFICATE_KEY}")
    first = min(chain, key=lambda each: each.not_valid_after_utc)
    times = first.not_valid_after_utc.timestamp(), first.not_valid_before_utc.timestamp()
    return ClientCertificate(certificate.chain, certificate.key, *times)
