from dataclasses import replace
from typing import Any

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.objects.builtin import CONFIGURATIONS, K8S
from connector_store.domain.objects.manifest_class import parse_class
from connector_store.domain.objects.models import AuthType, ConnectorClass, HttpProbe


def read(spec: object) -> ConnectorClass:
    return parse_class({"metadata": {"name": "c"}, "spec": spec})


def test_the_class_of_the_product_equals_the_built_in_class_but_for_configurations() -> None:
    cls = parse_class(
        {
            "apiVersion": "connectors.alauda.io/v1alpha1",
            "kind": "ConnectorClass",
            "metadata": {"name": "k8s"},
            "spec": {
                "auth": {
                    "types": [
                        {"name": "bearerTokenAuth", "secretType": "connectors.cpaas.io/bearer-token"},
                        {"name": "serviceAccountTokenAuth", "secretType": "connectors.cpaas.io/bearer-token"},
                        {"name": "clientCertificateAuth", "secretType": "connectors.cpaas.io/client-certificate"},
                    ]
                },
                "livenessProbe": {
                    "http": {
                        "path": '{{trimSuffix "/" (urlParse .Connector.Spec.Address).path}}/livez',
                        "method": "GET",
                    }
                },
                "authProbes": [
                    {
                        "authName": "bearerTokenAuth",
                        "probe": {
                            "http": {
                                "path": '{{- trimSuffix "/" (urlParse .Connector.Spec.Address).path -}}/api',
                                "httpHeaders": [
                                    {"name": "Authorization", "value": "Bearer {{ .Secret.StringData.token }}"}
                                ],
                            }
                        },
                    },
                    {"authName": "serviceAccountTokenAuth", "probe": {"http": {"path": "/api"}}},
                    {"authName": "clientCertificateAuth", "probe": {"http": {"path": "/api"}}},
                ],
                "configurations": [{"name": "kubeconfig"}, {"name": "kubeconfig-rotating"}],
            },
        }
    )
    assert cls == replace(K8S, configurations=("kubeconfig", "kubeconfig-rotating"))


def test_every_field_of_the_schema_is_parsed_or_reported() -> None:
    parameter = {"name": "p", "type": "string", "default": "x", "enum": ["x"], "properties": {}, "annotations": {}}
    cls = read(
        {
            "address": {"type": "string", "description": "d"},
            "addressExtensions": [parameter],
            "params": [parameter],
            "auth": {
                "types": [
                    {
                        "name": "t",
                        "displayName": "T",
                        "optional": True,
                        "secretType": "x/y",
                        "params": [parameter],
                        "generator": {"rego": "package p"},
                    }
                ]
            },
            "authProbes": [
                {"authName": "t", "params": [parameter], "probe": {"api": {"path": "/a"}}},
                {
                    "authName": "u",
                    "probe": {
                        "http": {
                            "path": "/a", "host": "h", "scheme": "https", "method": "POST", "disableRedirect": True,
                            "httpHeaders": {"X-A": "1", "X-B": "{{.x}}"}, "response": {"cel": "true"},
                        }
                    },
                },
            ],
            "livenessProbe": {
                "http": {"path": "/livez", "httpHeaders": [{"name": "X-A", "value": ""}, {"name": "a b"}]}
            },
            "configurations": [{"name": "kubeconfig", "data": {"config": "{{.x}}"}}, {"name": "netrc"}],
            "proxy": {"uri": "http://p", "ref": {"kind": "Service", "name": "p"}},
            "api": {"permissions": {"rego": "package p"}},
            "somethingNew": 1,
        }
    )  # fmt: skip
    assert cls.auth_types == (AuthType(name="t", secret_type="x/y", optional=True),)
    assert cls.auth_probes == {"u": HttpProbe(path="/a", method="POST", headers=(("X-A", "1"),))}
    assert cls.liveness == HttpProbe(path="/livez", headers=(("X-A", ""),))
    assert cls.configurations == ("kubeconfig",)
    assert set(cls.unsupported_fields) == {
        "spec.auth.types[0].params",
        "spec.auth.types[0].generator",
        "spec.authProbes[0].probe.api",
        "spec.authProbes[0].params",
        "spec.authProbes[1].probe.http.host",
        "spec.authProbes[1].probe.http.response",
        "spec.authProbes[1].probe.http.httpHeaders[X-B]",
        "spec.livenessProbe.http.httpHeaders[1]",
        "spec.configurations[0].data",
        "spec.configurations[1]",
        "spec.addressExtensions",
        "spec.api",
        "spec.params",
        "spec.proxy",
        "spec.somethingNew",
    }


@pytest.mark.parametrize(
    "http",
    [
        pytest.param({"path": "/{{.x}}"}, id="a template in the path"),
        pytest.param({"path": "livez"}, id="a path that is not absolute"),
        pytest.param({"path": "/a b"}, id="a space in the path"),
        pytest.param({"method": "GET"}, id="no path"),
        pytest.param({"path": "/a", "method": "PUT"}, id="another method"),
        pytest.param({"path": "/a", "scheme": "http"}, id="no TLS"),
    ],
)
def test_an_unsupported_probe_is_reported(http: dict[str, Any]) -> None:
    cls = read({"livenessProbe": {"http": http}})
    assert (cls.liveness, cls.unsupported_fields) == (None, ("spec.livenessProbe.http",))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (None, ()),
        ([], ("spec: is not an object",)),
        ({"auth": []}, ("spec.auth: is not an object",)),
        ({"auth": {"types": {}}}, ("spec.auth.types: is not a list",)),
        ({"auth": {"types": [{}]}}, ("spec.auth.types[0].name: is empty",)),
        ({"auth": {"types": [{"name": "a", "optional": "yes"}]}},
         ("spec.auth.types[0].optional: is neither true nor false",)),
        ({"authProbes": [{"probe": {}}]}, ("spec.authProbes[0].authName: is empty",)),
        ({"authProbes": [{"authName": 1}]}, ("spec.authProbes[0].authName: is not a string; put it in quotes",)),
        ({"authProbes": [{"authName": "a"}]}, ()),
        ({"livenessProbe": "x"}, ("spec.livenessProbe: is not an object",)),
        ({"livenessProbe": {"http": {"path": 5}}},
         ("spec.livenessProbe.http.path: is not a string; put it in quotes",)),
        ({"configurations": ["x"]}, ("spec.configurations[0]: is not an object",)),
    ],
)  # fmt: skip
def test_invalid_fields_are_reported(spec: object, expected: tuple[str, ...]) -> None:
    assert read(spec).unsupported_fields == expected


def test_a_class_without_a_name_is_refused() -> None:
    with pytest.raises(ParseError, match=r"metadata\.name"):
        parse_class({"metadata": {}})


def test_every_configuration_of_a_volume_is_supported() -> None:
    configurations = [{"name": name} for name in CONFIGURATIONS]
    cls = parse_class({"metadata": {"name": "x"}, "spec": {"configurations": configurations}})
    assert (cls.configurations, cls.unsupported_fields) == (CONFIGURATIONS, ())
