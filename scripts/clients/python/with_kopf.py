"""kopf, as it is: an operator that changes the state of one ConfigMap. A test creates it."""

import sys

import kopf

_use, namespace, OWN, _last = sys.argv[1:]
NEXT = {"first": "second", "third": "fourth"}


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: object) -> None:
    # The target's account has rights in one namespace.
    settings.scanning.disabled = True


@kopf.on.event("configmaps", when=lambda name, **_: name == OWN)
def change(body: kopf.Body, patch: kopf.Patch, **_: object) -> None:
    state = body["data"]["state"]
    print("watched", state, flush=True)
    if state in NEXT:
        patch["data"] = {"state": NEXT[state]}


kopf.run(namespaces=[namespace], standalone=True)
