{{- define "crucible.apiTlsSecret" -}}
{{ .Values.api.tls.existingSecret | default (printf "%s-tls" (include "crucible.apiAccount" .)) }}
{{- end -}}
{{- define "crucible.apiSessionSecret" -}}
{{ .Values.api.sessionSecret | default (printf "%s-session" (include "crucible.apiAccount" .)) }}
{{- end -}}

{{/* A volume that only one node can mount: the API has to run where the recorder does. */}}
{{- define "crucible.apiColocated" -}}
{{- if and (eq .Values.fileStore.type "directory") .Values.recorder.persistence.enabled (not (has "ReadWriteMany" .Values.recorder.persistence.accessModes)) -}}
true
{{- end -}}
{{- end -}}

{{- define "crucible.apiEnv" -}}
{{ include "crucible.operatorSettingsEnv" . }}
{{ include "crucible.fileStoreLocationEnv" . }}
- name: CRUCIBLE_TLS_CERT
  value: /etc/crucible/tls/tls.crt
- name: CRUCIBLE_TLS_KEY
  value: /etc/crucible/tls/tls.key
- name: CRUCIBLE_SESSION_KEY_FILE
  value: /etc/crucible/session/session-key
- name: CRUCIBLE_TRUSTED_PROXIES
  value: {{ join "," .Values.api.trustedProxies | quote }}
{{- range $class, $limit := .Values.api.rateLimits }}
- name: CRUCIBLE_RATE_{{ upper $class }}
  value: {{ $limit | int64 | quote }}
{{- end }}
- name: CRUCIBLE_MAX_STREAMS
  value: {{ .Values.api.maxStreams | int64 | quote }}
- name: CRUCIBLE_MAX_STREAMS_PER_CALLER
  value: {{ .Values.api.maxStreamsPerCaller | int64 | quote }}
- name: CRUCIBLE_SHUTDOWN_SECONDS
  value: "20"
- name: LOG_LEVEL
  value: {{ .Values.logLevel }}
- name: PORT
  value: "8443"
- name: METRICS_PORT
  value: "8080"
{{- end -}}
