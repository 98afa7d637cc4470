"""The attributes of a request compared with those that Kubernetes' own RequestInfoFactory gives it."""

from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from connector_store.domain.base.request_info import parse_request
from connector_store.domain.permissions.request_attributes import is_canonical_path
from tests.cluster.permissions.generated_requests import METHODS, PATHS, QUERIES
from tests.cluster.permissions.kubernetes_parser import KubernetesParser
from tests.fuzz import FACTOR, examples

NAMES = ("pods", "web", "a", "namespaces", "watch", "proxy", "status", "finalize", "exec", "log", "api", "apis", "v1")
"""Words of paths. Each can also be a name, a namespace or a resource."""
ROOTS = ("/api/v1", "/apis/apps/v1", "/apis/metrics.k8s.io/v1beta1", "/api", "/apis", "/apis/apps", "")
BELOW = tuple("/".join(("", *words)) for length in range(5) for words in product(NAMES[:8], repeat=length))
FIELDS = ("metadata.name", "metadata.namespace", "spec.nodeName", "status.phase", "")
OPTIONS = (
    "watch",
    "fieldSelector",
    "labelSelector",
    "limit",
    "timeoutSeconds",
    "resourceVersion",
    "continue",
    "pretty",
)


def test_the_table_is_read_as_kubernetes_reads_it(kubernetes: KubernetesParser) -> None:
    paths = [*(root + below for root in ROOTS for below in BELOW if root or below), *PATHS]
    requests = [
        *((METHODS[number % len(METHODS)], path) for number, path in enumerate(paths)),
        *product(METHODS, PATHS),
        *(("GET", f"{path}?{query}") for path in ("/api/v1/pods", "/api/v1/pods/a", "/api/v1/watch/pods")
          for query in QUERIES),
    ]  # fmt: skip
    requests = [(method, target) for method, target in requests if is_canonical_path(target)]
    assert len(requests) > 20_000
    expected = [(request, kubernetes.parse(*request)) for request in requests]
    assert [each for each in expected if each[1] not in (None, parse_request(*each[0], ""))] == []
    # The API server refuses a path that ends in a verb, such as /api/v1/watch.
    refused = [target for (_, target), info in expected if info is None]
    assert all(target.rpartition("/")[2] in ("watch", "proxy") for target in refused)
    assert 0 < len(refused) < len(requests) / 10


segments = st.sampled_from(NAMES) | st.text("abz09-.:%_~*", min_size=1, max_size=4)
escapes = st.sampled_from(["%61", "%70ods", "%2A", "%20", "%7E", "%41pi"])
paths = st.builds(
    lambda root, words, slash: f"{root}/{'/'.join(words)}{slash}",
    st.sampled_from(ROOTS),
    st.lists(segments | escapes, max_size=7),
    st.sampled_from(["", "/"]),
)
selectors = st.builds(
    lambda terms: ",".join(terms),
    st.lists(
        st.builds(
            lambda field, sign, value: f"{field}{sign}{value}",
            st.sampled_from(FIELDS),
            st.sampled_from(["=", "==", "!=", ">", "", " in "]),
            st.text("ab.\\,=/%!() 0-", max_size=4),
        ),
        max_size=3,
    ),
)
values = (
    st.sampled_from(["", "0", "1", "true", "false", "FALSE", "fal%C5%BFe", "x", "-1", "%2B1", "007", "%zz", "a;b"])
    | selectors.map(lambda text: text.replace("%", "%25").replace(" ", "+"))
    | selectors
)
pairs = st.builds(
    lambda key, sign, value: f"{key}{sign}{value}",
    st.sampled_from(OPTIONS) | st.sampled_from(["w%61tch", "field%53elector", "Watch", ""]),
    st.sampled_from(["=", "=", "=", ""]),
    values,
)
queries = st.lists(pairs, max_size=4).map("&".join)


@pytest.mark.fuzz
@settings(max_examples=examples(500, factor=3 * FACTOR))
@given(
    method=st.sampled_from([*METHODS, "CONNECT", "TRACE", "get", "Patch"]),
    path=paths,
    query=st.just("") | queries,
)
@example(method="GET", path="/api/v1/pods", query="watch=fal%C5%BFe")
def test_every_canonical_request_is_read_as_kubernetes_reads_it(
    kubernetes: KubernetesParser, method: str, path: str, query: str
) -> None:
    target = f"{path}?{query}" if query else path
    # Go does not allow spaces in a request line, and neither does the proxy.
    if is_canonical_path(target) and " " not in target:
        assert kubernetes.parse(method, target) in (None, parse_request(method, target, ""))
