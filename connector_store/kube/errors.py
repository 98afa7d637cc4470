"""What can go wrong between us and an API server."""


class ApiError(Exception):
    """The API server refused, or could not be asked.

    `status` is the HTTP code, 0 where there was no answer; `message` is the server's own (Status.message), or says
    what failed; `retry_after` is in seconds, None where the server named no time. Never holds a token.
    """

    def __init__(self, status: int, message: str, *, reason: str = "", retry_after: int | None = None) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.reason = reason
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.message} (HTTP {self.status})" if self.status else self.message
