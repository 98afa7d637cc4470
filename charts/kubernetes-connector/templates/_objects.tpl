{{/* Manifests of deploy/, each object with what the values change of it. Takes [root, glob of files]. */}}
{{- define "connector.manifests" }}
{{- $root := index . 0 }}
{{- with $root.Values.namespaces }}
{{- if eq .system .csi }}{{ fail "namespaces.csi: another one than namespaces.system, as its pods are privileged" }}{{ end }}
{{- end }}
{{- range $path, $_ := $root.Files.Glob (index . 1) }}
{{- $text := include "connector.namespaces" (list $root ($root.Files.Get $path)) }}
{{- range regexSplit "(?m)^---[ \t]*$" $text -1 }}
{{- $object := fromYaml . }}
{{- if hasKey $object "Error" }}{{ fail (printf "%s: %s" $path $object.Error) }}{{ end }}
{{- if and $object (ne (include "connector.left-out" (list $root $object)) "yes") }}
{{- include "connector.object" (list $root $object) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The text of a manifest with the namespaces of the values. connectors-csi is a name of other things too. */}}
{{- define "connector.namespaces" }}
{{- $namespaces := (index . 0).Values.namespaces }}
{{- $text := index . 1 | replace "connectors-system" $namespaces.system }}
{{- $text = regexReplaceAll "(namespace: |system:serviceaccounts?:)connectors-csi\\b" $text (printf "${1}%s" $namespaces.csi) }}
{{- regexReplaceAll "(kind: Namespace\nmetadata:\n  name: )connectors-csi\\b" $text (printf "${1}%s" $namespaces.csi) }}
{{- end }}

{{- define "connector.left-out" }}
{{- $root := index . 0 }}
{{- $object := index . 1 }}
{{- $name := $object.metadata.name }}
{{- if eq $object.kind "Namespace" }}
{{- if or (not $root.Values.namespaces.create) (eq $name $root.Release.Namespace) }}yes{{ end }}
{{- else if and (eq $object.kind "NetworkPolicy") (not $root.Values.networkPolicy.enabled) }}yes
{{- else if and (eq $object.kind "ClusterRoleBinding") (hasSuffix "-namespace" $name) $root.Values.namespaces.only }}yes
{{- else if and (hasPrefix "ValidatingAdmissionPolicy" $object.kind) (eq $name "secrets.connectors.alauda.io") (not $root.Values.policies.secrets) }}yes
{{- end }}
{{- end }}

{{/* One object as YAML. */}}
{{- define "connector.object" }}
{{- $root := index . 0 }}
{{- $object := index . 1 }}
{{- $values := $root.Values }}
{{- $kind := $object.kind }}
{{- $name := $object.metadata.name }}
{{- $_ := set $object.metadata "labels" (merge (dict "app.kubernetes.io/version" $root.Chart.AppVersion) ($object.metadata.labels | default dict)) }}
{{- $door := "" }}
{{- if hasPrefix "connectors-" $name }}{{ $door = trimPrefix "connectors-" $name }}{{ end }}
{{- if has $kind (list "Deployment" "DaemonSet") }}
{{- template "connector.workload" (list $root $object $door) }}
{{- else if eq $kind "CSIDriver" }}
{{- $given := $values.csi.serviceAccountTokenInSecrets }}
{{- if kindIs "bool" $given }}
{{- if not $given }}{{ $_ := unset $object.spec "serviceAccountTokenInSecrets" }}{{ end }}
{{- else if semverCompare "<1.35-0" $root.Capabilities.KubeVersion.Version }}
{{- $_ := unset $object.spec "serviceAccountTokenInSecrets" }}
{{- end }}
{{- else if and (eq $kind "ConfigMap") (eq $name "connectors-config") }}
{{- $_ := set $object "data" (include "connector.settings" (list $root $object.data) | fromYaml) }}
{{- else if and (eq $kind "Service") (eq $door "proxy") }}
{{- template "connector.service" (list $object $values.proxy.service) }}
{{- else if and (eq $kind "PodDisruptionBudget") (eq $door "proxy") }}
{{- $_ := set $object.spec "maxUnavailable" $values.proxy.maxUnavailable }}
{{- else if and (eq $kind "ServiceAccount") (hasKey $values $door) }}
{{- with (index $values $door).serviceAccountAnnotations }}
{{- $_ := set $object.metadata "annotations" . }}
{{- end }}
{{- else if eq $kind "ServiceMonitor" }}
{{- $_ := set $object.spec.namespaceSelector "matchNames" (list $values.namespaces.system $values.namespaces.csi) }}
{{- $_ := set $object.metadata "labels" (merge $values.serviceMonitor.labels $object.metadata.labels) }}
{{- range $object.spec.endpoints }}
{{- if $values.serviceMonitor.interval }}{{ $_ := set . "interval" $values.serviceMonitor.interval }}{{ end }}
{{- end }}
{{- else if eq $kind "PrometheusRule" }}
{{- $_ := set $object.metadata "labels" (merge $values.prometheusRule.labels $object.metadata.labels) }}
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
{{- end }}
{{- range $key, $value := $root.Values.settings }}
{{- if kindIs "invalid" $value }}{{ $_ := unset $data $key }}
{{- else }}{{ $_ := set $data $key (kindIs "string" $value | ternary $value (toJson $value)) }}{{ end }}
{{- end }}
{{- toYaml $data }}
{{- end }}

{{- define "connector.service" }}
{{- $object := index . 0 }}
{{- $values := index . 1 }}
{{- if ne $values.type "ClusterIP" }}{{ $_ := set $object.spec "type" $values.type }}{{ end }}
{{- range $key := list "loadBalancerClass" "loadBalancerSourceRanges" "externalTrafficPolicy" }}
{{- with index $values $key }}{{ $_ := set $object.spec $key . }}{{ end }}
{{- end }}
{{- with $values.annotations }}{{ $_ := set $object.metadata "annotations" . }}{{ end }}
{{- end }}
