"""Bodies of responses that are rewritten: JSON bytes of the target go in, JSON bytes for the client come out.

A list and a watch are rewritten object by object. The buffer holds one object, and what arrived behind it. All classes
raise ValueError if the body is not the expected JSON, is cut off, or has an object of more than `MAX_OBJECT` bytes.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from connector_store.domain.permissions.json_buffer import JsonBuffer, decode, encode
from connector_store.domain.permissions.mask import (
    Form,
    Masker,
    check_columns,
    copy_status,
    kind_of,
    mask_event,
    mask_list_metadata,
    mask_partial_metadata,
    mask_row,
    mask_secret,
    masker_of,
)
from connector_store.domain.permissions.object_reader import ObjectReader

MAX_STATUS: Final = 64 * 1024
"""Maximum bytes of an error's body. A longer one is dropped."""


class Body(Protocol):
    """Body of one response that is rewritten."""

    def receive(self, data: bytes) -> bytes:
        """Return what the client gets now."""

    def finish(self) -> bytes:
        """Handle the end of the body, and return the rest for the client."""


class ObjectBody:
    """Body with one object. The client gets nothing before it is complete."""

    def __init__(self, rewrite: Callable[[Any], object]) -> None:
        self._buffer = JsonBuffer()
        self._reader = ObjectReader(self._buffer, rewrite)
        self._output: list[bytes] = []

    def receive(self, data: bytes) -> bytes:
        if self._buffer.receive(data):
            self._buffer.read(self._step)
        return b""

    def finish(self) -> bytes:
        self._buffer.read(self._step)
        if not self._output or not self._buffer.is_at_end:
            raise ValueError("an object that is cut off")
        return self._output[0]

    def _step(self) -> None:
        if self._output:
            self._buffer.peek()
            raise ValueError("more than an object")
        rewritten = self._reader.read()
        if rewritten is not None:
            self._output.append(rewritten if isinstance(rewritten, bytes) else encode(rewritten))


class ErrorBody:
    """Body of an error. A Status passes, anything else is dropped."""

    def __init__(self) -> None:
        self._data = bytearray()

    def receive(self, data: bytes) -> bytes:
        self._data += data[: MAX_STATUS + 1 - len(self._data)]
        return b""

    def finish(self) -> bytes:
        if len(self._data) > MAX_STATUS:
            return b""
        try:
            return encode(copy_status(decode(self._data)))
        except ValueError:
            return b""


class WatchBody:
    """Body of a watch: one event after another."""

    def __init__(self, mask_object: Masker) -> None:
        self._buffer = JsonBuffer(is_prompt=True)
        self._reader = ObjectReader(self._buffer, lambda event: mask_event(event, mask_object))
        self._output: list[bytes] = []

    def receive(self, data: bytes) -> bytes:
        if self._buffer.receive(data):
            self._buffer.read(self._step)
        output = b"".join(self._output)
        self._output.clear()
        return output

    def finish(self) -> bytes:
        self._buffer.read(self._step)
        if not self._buffer.is_at_end:
            raise ValueError("a watch that ends within an event")
        output = b"".join(self._output)
        self._output.clear()
        return output

    def _step(self) -> None:
        event = self._reader.read()
        if event is not None:
            self._output.append((event if isinstance(event, bytes) else encode(event)) + b"\n")


class ListBody:
    """Body of a list, or of a table as a list."""

    def __init__(self, form: Form) -> None:
        self._kind = kind_of(form, is_list=True)
        self._items_field = "rows" if form is Form.TABLE else "items"
        mask_item: Masker = {Form.TABLE: mask_row, Form.METADATA: mask_partial_metadata}.get(form, mask_secret)
        self._buffer = JsonBuffer()
        self._reader = ObjectReader(self._buffer, mask_item)
        self._output: list[bytes] = []
        self._step = self._start
        self._field_count = 0
        self._has_items = False
        self._items: list[object] = []
        """Rewritten items that are encoded together, because each call of the encoder costs as much as an item."""
        self._seen: set[str] = set()

    def receive(self, data: bytes) -> bytes:
        if self._buffer.receive(data):
            self._buffer.read(lambda: self._step())
        return self._take_output()

    def finish(self) -> bytes:
        self._buffer.read(lambda: self._step())
        if self._step != self._after_end or not self._buffer.is_at_end:
            raise ValueError("a list that is cut off")
        return self._take_output()

    def _take_output(self) -> bytes:
        self._encode_items()
        output = b"".join(self._output)
        self._output.clear()
        return output

    def _start(self) -> None:
        self._buffer.expect("{")
        self._output.append(b"{")
        self._step = self._read_field

    def _read_field(self) -> None:
        name = self._buffer.value()
        if not isinstance(name, str) or name in self._seen:
            raise ValueError("a list with a repeated field, or a field without a name")
        self._buffer.expect(":")
        if name == self._items_field and self._buffer.peek() == "[":
            self._start_items()
        else:
            self._copy_field(name, self._buffer.value())
            self._step = self._after_field
        self._seen.add(name)

    def _start_items(self) -> None:
        self._buffer.expect("[")
        self._write_name(self._items_field)
        self._output.append(b"[")
        self._step = self._first_item

    def _copy_field(self, name: str, value: Any) -> None:
        if name == "kind" and value != self._kind:
            raise ValueError(f"a kind other than {self._kind}")
        if name == "metadata":
            value = mask_list_metadata(value)
        elif name == "columnDefinitions":
            value = check_columns(value)
        elif name == self._items_field:
            # The API server writes an empty PartialObjectMetadataList so.
            if value is not None:
                raise ValueError(f"{name} that are not a list")
        elif name not in ("kind", "apiVersion"):
            return
        self._write_name(name)
        self._output.append(encode(value))

    def _write_name(self, name: str) -> None:
        self._output.append((b"," if self._field_count else b"") + encode(name) + b":")
        self._field_count += 1

    def _after_field(self) -> None:
        if self._buffer.expect(",}") == ",":
            self._step = self._read_field
            return
        if not {"kind", self._items_field} <= self._seen:
            raise ValueError(f"a list without kind or {self._items_field}")
        self._output.append(b"}\n")
        self._step = self._after_end

    def _after_end(self) -> None:
        self._buffer.sign()
        raise ValueError("more than a list")

    def _first_item(self) -> None:
        if self._buffer.peek() == "]":
            self._buffer.expect("]")
            self._end_items()
        else:
            self._step = self._read_item

    def _read_item(self) -> None:
        while True:
            item = self._reader.read()
            if item is None:
                return
            if isinstance(item, bytes):
                self._encode_items()
                self._append_items(item)
            else:
                self._items.append(item)
            if not self._buffer.accept(","):
                self._step = self._after_item
                return

    def _encode_items(self) -> None:
        if self._items:
            self._append_items(encode(self._items)[1:-1])
            self._items.clear()

    def _append_items(self, encoded: bytes) -> None:
        self._output.append(b"," + encoded if self._has_items else encoded)
        self._has_items = True

    def _after_item(self) -> None:
        if self._buffer.expect(",]") == "]":
            self._end_items()
        else:
            self._step = self._read_item

    def _end_items(self) -> None:
        self._encode_items()
        self._output.append(b"]")
        self._step = self._after_field


def masked_body(form: Form, verb: str) -> Body:
    """Return the body of a successful response to `verb` on Secrets."""
    if verb == "list":
        return ListBody(form)
    return WatchBody(masker_of(form)) if verb == "watch" else ObjectBody(masker_of(form))
