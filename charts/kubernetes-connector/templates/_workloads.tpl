{{/* Values of a program as JSON: its own with those of pods. Lists and maps are put together, a text or number of the
program wins. */}}
{{- define "connector.program" }}
{{- $root := index . 0 }}
{{- $own := index $root.Values (index . 1) }}
{{- $values := deepCopy $own }}
{{- range $key, $common := $root.Values.pods }}
{{- $given := index $own $key }}
{{- if kindIs "slice" $common }}{{ $_ := set $values $key (concat $common ($given | default list) | default list) }}
{{- else if kindIs "map" $common }}{{ $_ := set $values $key (merge (deepCopy ($given | default dict)) $common) }}
{{- else if or (kindIs "invalid" $given) (eq (toString $given) "") }}{{ $_ := set $values $key $common }}
{{- end }}
{{- end }}
{{- toJson $values }}
{{- end }}

{{/* Changes a Deployment or DaemonSet. Takes [root, object, program]. */}}
{{- define "connector.workload" }}
{{- $root := index . 0 }}
{{- $object := index . 1 }}
{{- $program := index . 2 }}
{{- $values := include "connector.program" (list $root $program) | fromJson }}
{{- $template := $object.spec.template }}
{{- $pod := $template.spec }}
{{- with $values.annotations }}{{ $_ := set $object.metadata "annotations" . }}{{ end }}
{{- $labels := merge (dict "app.kubernetes.io/version" $root.Chart.AppVersion) $template.metadata.labels }}
{{- $_ := set $template.metadata "labels" (merge $labels $values.podLabels $root.Values.commonLabels) }}
{{- $_ := set $template.metadata "annotations" (merge ($template.metadata.annotations | default dict) $values.podAnnotations) }}
{{- $_ := set $template.metadata.annotations "connectors.alauda.io/settings" (include "connector.settings-hash" (list $root $program)) }}
{{- if eq $object.kind "Deployment" }}
{{- $_ := set $object.spec "replicas" $values.replicas }}
{{- if and (eq $program "proxy") $values.autoscaling.enabled }}{{ $_ := unset $object.spec "replicas" }}{{ end }}
{{- end }}
{{- range $key := list "strategy" "updateStrategy" }}
{{- with index $values $key }}{{ $_ := set $object.spec $key . }}{{ end }}
{{- end }}
{{- range $key := list "minReadySeconds" "revisionHistoryLimit" }}
{{- $value := index $values $key }}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $object.spec $key $value }}{{ end }}
{{- end }}
{{- $container := index $pod.containers 0 }}
{{- if eq $program "csi" }}
{{- template "connector.kubelet-root" (list $pod $container $values.kubeletRoot) }}
{{- end }}
{{- template "connector.container" (list $root $container $values $program) }}
{{- template "connector.pod" (list $root $pod $values $program) }}
{{- end }}

{{/* Hash of the settings that a program reads at its start only, so that a change of them replaces its pods. Programs follow
the other settings without a restart. A test compares the lists with connector_store/domain/config/settings.py. */}}
{{- define "connector.settings-hash" }}
{{- $root := index . 0 }}
{{- $read := dict
  "proxy" (list "audience" "access" "access-request-hint" "lock-exempt-group" "ca-file" "proxy-service" "proxy-tls" "cluster-domain" "ca-secret" "watch-timeout" "stale-after" "jwks-max-age" "drain")
  "controller" (list "audience" "ca-file" "proxy-service" "cluster-domain" "ca-secret" "ca-configmap" "watch-timeout" "stale-after" "ca-overlap")
  "csi" (list "audience" "access" "proxy-service" "proxy-tls" "cluster-domain" "ca-configmap" "watch-timeout" "stale-after") }}
{{- $settings := dict "system-namespace" $root.Values.namespaces.system }}
{{- range $key := index $read (index . 1) }}
{{- if hasKey $root.Values.settings $key }}{{ $_ := set $settings $key (index $root.Values.settings $key) }}{{ end }}
{{- end }}
{{- toJson $settings | sha256sum }}
{{- end }}

{{/* What its pods are, and where they run. Takes [root, pod, values, program]. */}}
{{- define "connector.pod" }}
{{- $root := index . 0 }}
{{- $pod := index . 1 }}
{{- $values := index . 2 }}
{{- $program := index . 3 }}
{{- $_ := set $pod "serviceAccountName" (include "connector.service-account" (list $root $program)) }}
{{- range $key := list "priorityClassName" "runtimeClassName" "schedulerName" "affinity" "tolerations" "dnsPolicy" "dnsConfig" "hostAliases" "hostUsers" }}
{{- $value := index $values $key }}
{{- if or $value (kindIs "bool" $value) }}{{ $_ := set $pod $key $value }}{{ end }}
{{- end }}
{{- if eq $program "csi" }}
{{- range $key := list "tolerations" "priorityClassName" }}
{{- if not (index $values $key) }}{{ $_ := unset $pod $key }}{{ end }}
{{- end }}
{{- end }}
{{- with $values.nodeSelector }}{{ $_ := set $pod "nodeSelector" (merge . ($pod.nodeSelector | default dict)) }}{{ end }}
{{- $spread := $values.topologySpreadConstraints | default list }}
{{- if $values.zoneSpread }}
{{- $selector := dict "matchLabels" (dict "app.kubernetes.io/name" (printf "connectors-%s" $program)) }}
{{- $spread = append $spread (dict "maxSkew" 1 "topologyKey" "topology.kubernetes.io/zone" "whenUnsatisfiable" "ScheduleAnyway" "labelSelector" $selector "matchLabelKeys" (list "pod-template-hash")) }}
{{- end }}
{{- $_ := unset $pod "topologySpreadConstraints" }}
{{- with $spread }}{{ $_ := set $pod "topologySpreadConstraints" . }}{{ end }}
{{- with $root.Values.image.pullSecrets }}{{ $_ := set $pod "imagePullSecrets" . }}{{ end }}
{{- with $values.podSecurityContext }}{{ $_ := set $pod "securityContext" (merge . ($pod.securityContext | default dict)) }}{{ end }}
{{- if and $root.Values.openshift (hasKey $pod "securityContext") }}
{{- range $key := list "runAsUser" "runAsGroup" "fsGroup" }}{{ $_ := unset $pod.securityContext $key }}{{ end }}
{{- end }}
{{- with $values.extraVolumes }}{{ $_ := set $pod "volumes" (concat ($pod.volumes | default list) .) }}{{ end }}
{{- with $values.extraContainers }}{{ $_ := set $pod "containers" (concat $pod.containers .) }}{{ end }}
{{- with $values.extraInitContainers }}{{ $_ := set $pod "initContainers" . }}{{ end }}
{{- if not (kindIs "invalid" $values.terminationGracePeriodSeconds) }}
{{- $_ := set $pod "terminationGracePeriodSeconds" $values.terminationGracePeriodSeconds }}
{{- end }}
{{- if eq $program "proxy" }}{{ template "connector.grace" (list $root $pod $values) }}{{ end }}
{{- end }}

{{/* A proxy that stops accepts connections for 5 s, gives the live ones the setting drain, and closes them. */}}
{{- define "connector.grace" }}
{{- $pod := index . 1 }}
{{- $drain := 60 }}
{{- with (index . 0).Values.settings }}
{{- if and (hasKey . "drain") (not (kindIs "invalid" .drain)) }}{{ $drain = .drain | toString | float64 | ceil | int }}{{ end }}
{{- end }}
{{- $given := (index . 2).terminationGracePeriodSeconds }}
{{- if kindIs "invalid" $given }}
{{- $_ := set $pod "terminationGracePeriodSeconds" (add $drain 15) }}
{{- else if lt (int $given) (int (add $drain 10)) }}
{{- fail (printf "proxy.terminationGracePeriodSeconds: %d is too short for settings.drain=%d; use at least %d, or leave it out" (int $given) $drain (add $drain 10)) }}
{{- end }}
{{- end }}

{{/* The program's container. Takes [root, container, values, program]. */}}
{{- define "connector.container" }}
{{- $root := index . 0 }}
{{- $container := index . 1 }}
{{- $values := index . 2 }}
{{- $_ := set $container "image" (include "connector.image" $root) }}
{{- with $root.Values.image.pullPolicy }}{{ $_ := set $container "imagePullPolicy" . }}{{ end }}
{{- $_ := set $container "resources" $values.resources }}
{{- $arguments := $container.args }}
{{- if ne $values.logLevel "info" }}
{{- if eq (index . 3) "proxy" }}
{{- $arguments = concat $arguments (list "--set" (printf "termlog_verbosity=%s" (replace "warning" "warn" $values.logLevel))) }}
{{- else }}
{{- $arguments = append $arguments (printf "--log-level=%s" (upper $values.logLevel)) }}
{{- end }}
{{- end }}
{{- $_ := set $container "args" (concat $arguments $values.extraArgs) }}
{{- with concat ($container.env | default list) $values.extraEnv }}{{ $_ := set $container "env" . }}{{ end }}
{{- with $values.extraEnvFrom }}{{ $_ := set $container "envFrom" . }}{{ end }}
{{- with $values.extraVolumeMounts }}{{ $_ := set $container "volumeMounts" (concat ($container.volumeMounts | default list) .) }}{{ end }}
{{- range $key := list "securityContext" "startupProbe" "livenessProbe" "readinessProbe" }}
{{- with index $values $key }}{{ $_ := set $container $key (merge . ((index $container $key) | default dict)) }}{{ end }}
{{- end }}
{{- end }}

{{- define "connector.image" }}
{{- $image := .Values.image }}
{{- if $image.digest }}{{ printf "%s@%s" $image.repository $image.digest }}
{{- else }}{{ printf "%s:%s" $image.repository ($image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{/* The driver's folders are at the same paths as on the node. */}}
{{- define "connector.kubelet-root" }}
{{- $pod := index . 0 }}
{{- $container := index . 1 }}
{{- $root := index . 2 }}
{{- range $container.env }}{{ if eq .name "KUBELET_ROOT" }}{{ $_ := set . "value" $root }}{{ end }}{{ end }}
{{- range $container.volumeMounts }}{{ $_ := set . "mountPath" (.mountPath | replace "/var/lib/kubelet" $root) }}{{ end }}
{{- range $pod.volumes }}{{ $_ := set .hostPath "path" (.hostPath.path | replace "/var/lib/kubelet" $root) }}{{ end }}
{{- end }}
