"""Where records of TLS end, however they are cut."""

from hypothesis import given
from hypothesis import strategies as st

from addons.net.records import RecordEnds

RECORDS = st.lists(
    st.binary(max_size=700).map(lambda content: b"\x17\x03\x03" + len(content).to_bytes(2) + content), max_size=6
)


@given(RECORDS, st.data())
def test_for_every_cut_it_is_between_exactly_where_a_record_ends(records: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(records)
    ends = {sum(map(len, records[:count])) for count in range(len(records) + 1)}
    found, at = RecordEnds(), 0
    while at < len(stream):
        size = data.draw(st.integers(1, len(stream) - at))
        found.receive(memoryview(stream)[at : at + size])
        at += size
        assert found.between == (at in ends)


def test_before_anything_came_and_after_nothing_it_is_between() -> None:
    found = RecordEnds()
    found.receive(b"")
    assert found.between
