"""The values of parsed access objects."""

import sys

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.access_objects import AccessApproval, AccessLock, AccessPolicy, AccessRequest

KEY = ObjectKey("team-a", "a")


def test_they_have_no_dictionary_and_no_free_text() -> None:
    objects = (AccessRequest(key=KEY, uid="u"), AccessApproval(key=KEY, uid="u"), AccessPolicy(key=KEY, uid="u"))
    assert not any(hasattr(each, "__dict__") for each in (*objects, AccessLock(key=KEY)))
    assert all(sys.getsizeof(each) < 256 for each in objects)
    assert not {"reason", "comment"} & {field for each in objects[:2] for field in each.__slots__}
