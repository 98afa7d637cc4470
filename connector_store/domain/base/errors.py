"""The one exception of the domain.

>>> str(ParseError("spec.address", "has no host; write https://HOST[:PORT][/PATH]"))
'spec.address: has no host; write https://HOST[:PORT][/PATH]'
"""


class ParseError(ValueError):
    """Input from outside that is not what the API page allows.

    `path` is the field, as kubectl writes it (`spec.auth.secretRef.name`, `data[token]`), empty for the whole input;
    `reason` says what is wrong and what to write instead. Neither ever quotes secret data.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason
