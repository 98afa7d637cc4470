"""Errors of requests to an API server."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from connector_store.domain.base.json_document import load_json


class ApiError(Exception):
    """The API server refused the request, or sent no response.

    `status` is the HTTP status, or 0 without a response. `message` is that of the server's Status, or says what failed.
    `retry_after` is in seconds, or None if the server named no time. The error never contains a token.
    """

    def __init__(self, status: int, message: str, *, reason: str = "", retry_after: int | None = None) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.reason = reason
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.message} (HTTP {self.status})" if self.status else self.message

    @classmethod
    def from_response(cls, status: int, phrase: str | None, body: bytes, *, retry_after: int | None = None) -> Self:
        """Return the error for a response with status 300 or more. The message is that of the Status in its body."""
        try:
            document = load_json(body)
        except ValueError:
            document = None
        fields = document if isinstance(document, dict) else {}
        message = str(fields.get("message") or phrase or "no message")
        return cls(status, message, reason=str(fields.get("reason") or ""), retry_after=retry_after)


@contextmanager
def suppress_status(*statuses: int) -> Iterator[None]:
    """Suppress an ApiError with one of these HTTP statuses."""
    try:
        yield
    except ApiError as error:
        if error.status not in statuses:
            raise
