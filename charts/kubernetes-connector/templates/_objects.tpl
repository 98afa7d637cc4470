{{/* Manifests of deploy/, each object with what the values change of it. Takes [root, glob of files]. */}}
{{- define "connector.manifests" }}
{{- $root := index . 0 }}
{{- with $root.Values.namespaces }}
{{- if eq .system .csi }}{{ fail "namespaces.csi: use another namespace than namespaces.system, because the driver's pods are privileged" }}{{ end }}
{{- end }}
{{- range $path, $_ := $root.Files.Glob (index . 1) }}
{{- $text := include "connector.names" (list $root ($root.Files.Get $path)) }}
{{- range regexSplit "(?m)^---[ \t]*$" $text -1 }}
{{- $object := fromYaml . }}
{{- if hasKey $object "Error" }}{{ fail (printf "%s: %s" $path $object.Error) }}{{ end }}
{{- if and $object (ne (include "connector.left-out" (list $root $object $path)) "yes") }}
{{- include "connector.object" (list $root $object) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The text of a manifest with the namespaces and ServiceAccounts of the values. connectors-csi is a name of other things
too. */}}
{{- define "connector.names" }}
{{- $root := index . 0 }}
{{- $namespaces := $root.Values.namespaces }}
{{- $text := index . 1 | replace "connectors-system" $namespaces.system }}
{{- $text = regexReplaceAll "(namespace: |system:serviceaccounts?:)connectors-csi\\b" $text (printf "${1}%s" $namespaces.csi) }}
{{- range $program := list "proxy" "controller" "csi" }}
{{- $account := include "connector.service-account" (list $root $program) }}
{{- $text = regexReplaceAll (printf "(system:serviceaccount:[a-z0-9-]+:)connectors-%s\\b" $program) $text (printf "${1}%s" $account) }}
{{- end }}
{{- with ($root.Values.tekton).gate }}
{{- $text = replace "system:serviceaccount:tekton-pipelines:manual-approval-gate-controller" . $text }}
{{- end }}
{{- regexReplaceAll "(kind: Namespace\nmetadata:\n  name: )connectors-csi\\b" $text (printf "${1}%s" $namespaces.csi) }}
{{- end }}

{{- define "connector.service-account" }}
{{- (index (index . 0).Values (index . 1)).serviceAccount.name | default (printf "connectors-%s" (index . 1)) }}
{{- end }}

{{/* "yes" if the values leave an object out. */}}
{{- define "connector.left-out" }}
{{- $root := index . 0 }}
{{- $object := index . 1 }}
{{- $path := index . 2 }}
{{- $values := $root.Values }}
{{- $kind := $object.kind }}
{{- $name := $object.metadata.name }}
{{- $program := trimPrefix "connectors-" $name }}
{{- if and (not $values.csi.enabled) (or (hasPrefix "manifests/csi/" $path) (eq ($object.metadata.namespace | default "") $values.namespaces.csi)) }}yes
{{- else if and (hasPrefix "manifests/crds/" $path) (not $values.crds.enabled) }}yes
{{- else if eq $kind "Namespace" }}
{{- if or (not $values.namespaces.create) (eq $name $root.Release.Namespace) }}yes{{ end }}
{{- else if and (eq $kind "NetworkPolicy") (not $values.networkPolicy.enabled) }}yes
{{- else if and (has $kind (list "ClusterRole" "ClusterRoleBinding" "Role" "RoleBinding")) (not $values.rbac.create) }}yes
{{- else if and (eq $kind "ClusterRoleBinding") (hasSuffix "-namespace" $name) (or $values.namespaces.only $values.namespaces.bound) }}yes
{{- else if and (hasPrefix "ValidatingAdmissionPolicy" $kind) (eq $name "secrets.connectors.alauda.io") (not $values.policies.secrets) }}yes
{{- else if and (eq $kind "PodDisruptionBudget") (not (index $values $program).podDisruptionBudget.enabled) }}yes
{{- else if and (eq $kind "ServiceAccount") (not (index $values $program).serviceAccount.create) }}yes
{{- end }}
{{- end }}

{{/* One object as YAML. */}}
{{- define "connector.object" }}
{{- $root := index . 0 }}
{{- $object := index . 1 }}
{{- $values := $root.Values }}
{{- $kind := $object.kind }}
{{- $name := $object.metadata.name }}
{{- $labels := dict "app.kubernetes.io/version" $root.Chart.AppVersion }}
{{- $_ := set $object.metadata "labels" (merge $labels ($object.metadata.labels | default dict) $values.commonLabels) }}
{{- $program := "" }}
{{- if hasPrefix "connectors-" $name }}{{ $program = trimPrefix "connectors-" $name }}{{ end }}
{{- if has $kind (list "Deployment" "DaemonSet") }}
{{- template "connector.workload" (list $root $object $program) }}
{{- else if eq $kind "CSIDriver" }}
{{- $given := $values.csi.serviceAccountTokenInSecrets }}
{{- if kindIs "bool" $given }}
{{- if not $given }}{{ $_ := unset $object.spec "serviceAccountTokenInSecrets" }}{{ end }}
{{- else if semverCompare "<1.35-0" $root.Capabilities.KubeVersion.Version }}
{{- $_ := unset $object.spec "serviceAccountTokenInSecrets" }}
{{- end }}
{{- else if eq $kind "CustomResourceDefinition" }}
{{- if not $values.crds.keep }}{{ $_ := unset $object.metadata.annotations "helm.sh/resource-policy" }}{{ end }}
{{- else if and (eq $kind "ConfigMap") (eq $name "connectors-config") }}
{{- $_ := set $object "data" (include "connector.settings" (list $root $object.data) | fromYaml) }}
{{- else if and (eq $kind "ConfigMap") (eq $name "connectors-authentication") }}
{{- template "connector.authentication" (list $root $object) }}
{{- else if and (eq $kind "Service") (eq $program "proxy") }}
{{- template "connector.service" (list $object $values.proxy.service) }}
{{- else if eq $kind "PodDisruptionBudget" }}
{{- template "connector.disruption-budget" (list $object (index $values $program).podDisruptionBudget) }}
{{- else if eq $kind "ServiceAccount" }}
{{- $account := (index $values $program).serviceAccount }}
{{- $_ := set $object.metadata "name" (include "connector.service-account" (list $root $program)) }}
{{- $_ := set $object.metadata "labels" (merge $object.metadata.labels $account.labels) }}
{{- with $account.annotations }}{{ $_ := set $object.metadata "annotations" . }}{{ end }}
{{- else if hasSuffix "Binding" $kind }}
{{- range $object.subjects | default list }}
{{- if and (eq .kind "ServiceAccount") (hasPrefix "connectors-" .name) }}
{{- $_ := set . "name" (include "connector.service-account" (list $root (trimPrefix "connectors-" .name))) }}
{{- end }}
{{- end }}
{{- else if and (eq $kind "ClusterRole") (not $values.rbac.aggregate) }}
{{- range $label, $_ := $object.metadata.labels }}
{{- if hasPrefix "rbac.authorization.k8s.io/aggregate-to-" $label }}{{ $_ := unset $object.metadata.labels $label }}{{ end }}
{{- end }}
{{- else if eq $kind "NetworkPolicy" }}
{{- template "connector.network-policy" (list $object $values.networkPolicy.metricsFrom) }}
{{- else if eq $kind "ResourceQuota" }}
{{- $class := $values.csi.priorityClassName | default $values.pods.priorityClassName }}
{{- range $object.spec.scopeSelector.matchExpressions }}
{{- if and $class (not (has $class .values)) }}{{ $_ := set . "values" (append .values $class) }}{{ end }}
{{- end }}
{{- else if eq $kind "ServiceMonitor" }}
{{- template "connector.service-monitor" (list $root $object) }}
{{- else if eq $kind "PrometheusRule" }}
{{- $_ := set $object.metadata "labels" (merge $values.prometheusRule.labels $object.metadata.labels) }}
{{- with $values.prometheusRule.annotations }}{{ $_ := set $object.metadata "annotations" . }}{{ end }}
{{- range $object.spec.groups }}
{{- range .rules }}
{{- with .annotations }}{{ $_ := set . "runbook_url" (printf "%s%s" $values.prometheusRule.runbookBase .runbook_url) }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
---
{{ toYaml $object }}
{{- end }}

{{/* The shared settings: those of the manifest, of the namespaces, and of the values over them. Numbers are floats here,
which as text would be 2.592e+06. */}}
{{- define "connector.settings" }}
{{- $root := index . 0 }}
{{- $data := index . 1 }}
{{- with $root.Values.namespaces }}
{{- with .only }}{{ $_ := set $data "namespaces" (join "," .) }}{{ end }}
{{- if .bound }}{{ $_ := set $data "namespaces" "RoleBinding" }}{{ end }}
{{- end }}
{{- range $key, $value := $root.Values.settings }}
{{- if kindIs "invalid" $value }}{{ $_ := unset $data $key }}
{{- else }}{{ $_ := set $data $key (kindIs "string" $value | ternary $value (toJson $value)) }}{{ end }}
{{- end }}
{{- toYaml $data }}
{{- end }}

{{/* The issuers of the values. Without the value, the manifest has no key, so that Helm neither removes the issuers of another
manager nor conflicts with it. */}}
{{- define "connector.authentication" }}
{{- $root := index . 0 }}
{{- $issuers := $root.Values.authentication.jwt }}
{{- if kindIs "slice" $issuers }}
{{- $configuration := dict "apiVersion" "apiserver.config.k8s.io/v1" "kind" "AuthenticationConfiguration" "jwt" $issuers }}
{{- $_ := set (index . 1) "data" (dict "authentication.yaml" (tpl (toYaml $configuration) $root)) }}
{{- end }}
{{- end }}

{{- define "connector.service" }}
{{- $object := index . 0 }}
{{- $values := index . 1 }}
{{- if ne $values.type "ClusterIP" }}{{ $_ := set $object.spec "type" $values.type }}{{ end }}
{{- range $key := list "loadBalancerClass" "loadBalancerIP" "loadBalancerSourceRanges" "allocateLoadBalancerNodePorts" "externalTrafficPolicy" "trafficDistribution" "ipFamilyPolicy" "ipFamilies" }}
{{- $value := index $values $key }}
{{- if or $value (kindIs "bool" $value) }}{{ $_ := set $object.spec $key $value }}{{ end }}
{{- end }}
{{- $_ := set $object.metadata "labels" (merge $object.metadata.labels $values.labels) }}
{{- with $values.annotations }}{{ $_ := set $object.metadata "annotations" . }}{{ end }}
{{- end }}

{{- define "connector.disruption-budget" }}
{{- $spec := (index . 0).spec }}
{{- $values := index . 1 }}
{{- if not (kindIs "invalid" $values.minAvailable) }}
{{- $_ := unset $spec "maxUnavailable" }}
{{- $_ := set $spec "minAvailable" $values.minAvailable }}
{{- else }}
{{- $_ := set $spec "maxUnavailable" $values.maxUnavailable }}
{{- end }}
{{- with $values.unhealthyPodEvictionPolicy }}{{ $_ := set $spec "unhealthyPodEvictionPolicy" . }}{{ end }}
{{- end }}

{{/* Adds namespaces, and peers in Kubernetes' own form, to those that reach the admin port. */}}
{{- define "connector.network-policy" }}
{{- $peers := index . 1 }}
{{- range (index . 0).spec.ingress }}
{{- if hasKey . "from" }}
{{- $rule := . }}
{{- range $peers }}
{{- $peer := . }}
{{- if kindIs "string" . }}{{ $peer = dict "namespaceSelector" (dict "matchLabels" (dict "kubernetes.io/metadata.name" .)) }}{{ end }}
{{- $_ := set $rule "from" (append $rule.from $peer) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "connector.service-monitor" }}
{{- $root := index . 0 }}
{{- $object := index . 1 }}
{{- $values := $root.Values.serviceMonitor }}
{{- $namespaces := list $root.Values.namespaces.system }}
{{- if $root.Values.csi.enabled }}{{ $namespaces = append $namespaces $root.Values.namespaces.csi }}{{ end }}
{{- $_ := set $object.spec.namespaceSelector "matchNames" $namespaces }}
{{- $_ := set $object.metadata "labels" (merge $values.labels $object.metadata.labels) }}
{{- with $values.annotations }}{{ $_ := set $object.metadata "annotations" . }}{{ end }}
{{- range $endpoint := $object.spec.endpoints }}
{{- range $key := list "interval" "scrapeTimeout" "relabelings" "metricRelabelings" }}
{{- with index $values $key }}{{ $_ := set $endpoint $key . }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
