{{/* The operator's settings: what operator/src/config.ts reads. The API gets the same, for plans and positions. */}}
{{- define "crucible.operatorSettingsEnv" -}}
- name: CRUCIBLE_NAMESPACES
  value: {{ include "crucible.evaluationNamespaceNames" . | quote }}
- name: CRUCIBLE_MAX_CONCURRENT
  value: {{ .Values.operator.maxConcurrent | int64 | quote }}
- name: CRUCIBLE_NAMESPACE_LIMITS
  value: {{ include "crucible.evaluationNamespaceLimits" . | quote }}
- name: CRUCIBLE_MAX_UNCAPTURED
  value: {{ .Values.operator.maxUncaptured | int64 | quote }}
- name: CRUCIBLE_KUEUE
  value: {{ .Values.kueue.enabled | quote }}
- name: CRUCIBLE_JOB_TTL_SECONDS
  value: {{ .Values.operator.jobTtlSeconds | int64 | quote }}
- name: CRUCIBLE_RUNTIME_CLASS
  value: {{ .Values.sandbox.runtimeClassName | quote }}
- name: CRUCIBLE_LAUNCHER_IMAGE
  value: {{ include "crucible.image" (dict "root" . "image" "launcher") }}
- name: CRUCIBLE_SANDBOX_PULL_POLICY
  value: {{ .Values.imagePullPolicy }}
- name: CRUCIBLE_SANDBOX_PULL_SECRETS
  value: {{ join "," .Values.sandbox.imagePullSecrets | quote }}
- name: CRUCIBLE_SANDBOX_UID_FIRST
  value: {{ .Values.sandbox.uids.first | int64 | quote }}
- name: CRUCIBLE_SANDBOX_UID_LAST
  value: {{ .Values.sandbox.uids.last | int64 | quote }}
- name: CRUCIBLE_SANDBOX_CPU_REQUEST_PERCENT
  value: {{ .Values.sandbox.cpuRequestPercent | quote }}
- name: CRUCIBLE_SANDBOX_PROCESSES
  value: {{ .Values.sandbox.processes | quote }}
- name: CRUCIBLE_SANDBOX_OPEN_FILES
  value: {{ .Values.sandbox.openFiles | int64 | quote }}
- name: CRUCIBLE_SANDBOX_GRACE_SECONDS
  value: {{ .Values.sandbox.graceSeconds | int64 | quote }}
- name: CRUCIBLE_START_UP_SECONDS
  value: {{ .Values.operator.patience.startUpSeconds | int64 | quote }}
- name: CRUCIBLE_IMAGE_PULL_SECONDS
  value: {{ .Values.operator.patience.imagePullSeconds | int64 | quote }}
- name: CRUCIBLE_UNSCHEDULABLE_SECONDS
  value: {{ .Values.operator.patience.unschedulableSeconds | int64 | quote }}
- name: CRUCIBLE_QUOTA_SECONDS
  value: {{ .Values.operator.patience.quotaSeconds | int64 | quote }}
- name: CRUCIBLE_DRILL
  value: {{ .Values.drill.enabled | ternary "on" "off" | quote }}
- name: CRUCIBLE_DRILL_NAMESPACE
  value: {{ .Values.drill.namespace | quote }}
- name: CRUCIBLE_DRILL_CONTROL_URL
  value: http://{{ include "crucible.fullname" . }}-drill-control.{{ .Values.drill.controlNamespace }}.svc:8080
- name: CRUCIBLE_DRILL_RETRY_SECONDS
  value: {{ .Values.drill.retrySeconds | int64 | quote }}
- name: CRUCIBLE_DRILL_FULL_SECONDS
  value: {{ .Values.drill.fullEverySeconds | int64 | quote }}
- name: CRUCIBLE_DRILL_WATCH
  value: {{ .Values.drill.watch | quote }}
- name: CRUCIBLE_DRILL_METADATA
  value: {{ join "," .Values.drill.metadataAddresses | quote }}
- name: CRUCIBLE_ACCEPTED_RISKS
  value: {{ .Values.acceptedRisks | toJson | quote }}
- name: CRUCIBLE_LEASE_NAMESPACE
  value: {{ .Release.Namespace }}
{{- end -}}
{{- define "crucible.operatorEnv" -}}
{{ include "crucible.operatorSettingsEnv" . }}
- name: LOG_LEVEL
  value: {{ .Values.logLevel }}
- name: PORT
  value: "8080"
{{- end -}}
