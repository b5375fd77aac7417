{{/* The operator's settings: what operator/src/config.ts reads. */}}
{{- define "crucible.operatorEnv" -}}
- name: CRUCIBLE_NAMESPACES
  value: {{ include "crucible.evaluationNamespaceNames" . | quote }}
- name: CRUCIBLE_MAX_CONCURRENT
  value: {{ .Values.operator.maxConcurrent | quote }}
- name: CRUCIBLE_JOB_TTL_SECONDS
  value: {{ .Values.operator.jobTtlSeconds | quote }}
- name: CRUCIBLE_RUNTIME_CLASS
  value: {{ .Values.sandbox.runtimeClassName | quote }}
- name: CRUCIBLE_LAUNCHER_IMAGE
  value: {{ include "crucible.image" (dict "root" . "image" "launcher") }}
- name: LOG_LEVEL
  value: {{ .Values.logLevel }}
- name: PORT
  value: "8080"
{{- end -}}
