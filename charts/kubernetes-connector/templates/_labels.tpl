{{/* Labels of the objects that only the chart has, as JSON. */}}
{{- define "connector.labels" }}
{{- merge (dict "app.kubernetes.io/part-of" "kubernetes-connector" "app.kubernetes.io/version" .Chart.AppVersion) .Values.commonLabels | toJson }}
{{- end }}
