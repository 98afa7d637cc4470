{{/* Changes a Deployment or DaemonSet. Takes [root, object, door]. */}}
{{- define "connector.workload" }}
{{- $root := index . 0 }}
{{- $object := index . 1 }}
{{- $door := index . 2 }}
{{- $values := index $root.Values $door }}
{{- $template := $object.spec.template }}
{{- $pod := $template.spec }}
{{- $labels := merge (dict "app.kubernetes.io/version" $root.Chart.AppVersion) $template.metadata.labels }}
{{- $_ := set $template.metadata "labels" (merge $labels $values.podLabels) }}
{{- $_ := set $template.metadata "annotations" (merge ($template.metadata.annotations | default dict) $values.podAnnotations) }}
{{- $settings := dict "settings" $root.Values.settings "namespaces" $root.Values.namespaces }}
{{- $_ := set $template.metadata.annotations "connectors.alauda.io/settings" (toYaml $settings | sha256sum) }}
{{- if eq $object.kind "Deployment" }}
{{- $_ := set $object.spec "replicas" $values.replicas }}
{{- if and (eq $door "proxy") $values.autoscaling.enabled }}{{ $_ := unset $object.spec "replicas" }}{{ end }}
{{- end }}
{{- template "connector.scheduling" (list $root $pod $door) }}
{{- with $root.Values.image.pullSecrets }}{{ $_ := set $pod "imagePullSecrets" . }}{{ end }}
{{- if and $root.Values.openshift (hasKey $pod "securityContext") }}
{{- range $key := list "runAsUser" "runAsGroup" "fsGroup" }}{{ $_ := unset $pod.securityContext $key }}{{ end }}
{{- end }}
{{- $container := index $pod.containers 0 }}
{{- template "connector.container" (list $root $container $door) }}
{{- if eq $door "csi" }}
{{- template "connector.kubelet-root" (list $pod $container $values.kubeletRoot) }}
{{- end }}
{{- end }}

{{/* Where its pods run. */}}
{{- define "connector.scheduling" }}
{{- $pod := index . 1 }}
{{- $door := index . 2 }}
{{- $values := index (index . 0).Values $door }}
{{- range $key := list "priorityClassName" "affinity" "tolerations" }}
{{- with index $values $key }}{{ $_ := set $pod $key . }}{{ end }}
{{- end }}
{{- if and (eq $door "csi") (not $values.tolerations) }}{{ $_ := unset $pod "tolerations" }}{{ end }}
{{- if and (eq $door "csi") (not $values.priorityClassName) }}{{ $_ := unset $pod "priorityClassName" }}{{ end }}
{{- with $values.nodeSelector }}{{ $_ := set $pod "nodeSelector" (merge . ($pod.nodeSelector | default dict)) }}{{ end }}
{{- $spread := $values.topologySpreadConstraints | default list }}
{{- if $values.zoneSpread }}
{{- $selector := dict "matchLabels" (dict "app.kubernetes.io/name" (printf "connectors-%s" $door)) }}
{{- $spread = append $spread (dict "maxSkew" 1 "topologyKey" "topology.kubernetes.io/zone" "whenUnsatisfiable" "ScheduleAnyway" "labelSelector" $selector) }}
{{- end }}
{{- $_ := unset $pod "topologySpreadConstraints" }}
{{- with $spread }}{{ $_ := set $pod "topologySpreadConstraints" . }}{{ end }}
{{- end }}

{{/* The one container of a door. */}}
{{- define "connector.container" }}
{{- $root := index . 0 }}
{{- $container := index . 1 }}
{{- $values := index $root.Values (index . 2) }}
{{- $image := $root.Values.image }}
{{- $reference := printf "%s:%s" $image.repository ($image.tag | default $root.Chart.AppVersion) }}
{{- if $image.digest }}{{ $reference = printf "%s@%s" $image.repository $image.digest }}{{ end }}
{{- $_ := set $container "image" $reference }}
{{- with $image.pullPolicy }}{{ $_ := set $container "imagePullPolicy" . }}{{ end }}
{{- $_ := set $container "resources" $values.resources }}
{{- $_ := set $container "args" (concat $container.args $values.extraArgs) }}
{{- $environment := concat ($container.env | default list) $values.extraEnv }}
{{- with $environment }}{{ $_ := set $container "env" . }}{{ end }}
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
