{{/* Names are fixed by the release, so that two releases can live in one namespace. The release "crucible" gives
     crucible-operator, crucible-postgres and so on. */}}
{{- define "crucible.fullname" -}}
{{- if contains "crucible" .Release.Name -}}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{- else -}}{{ printf "%s-crucible" .Release.Name | trunc 40 | trimSuffix "-" }}{{- end -}}
{{- end -}}

{{- define "crucible.chart" -}}
{{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* (dict "root" . "component" "operator") */}}
{{- define "crucible.selectorLabels" -}}
app.kubernetes.io/name: crucible
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "crucible.componentLabels" -}}
{{ include "crucible.selectorLabels" . }}
{{ include "crucible.commonLabels" .root }}
{{- end -}}

{{- define "crucible.commonLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: crucible
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ include "crucible.chart" . }}
{{- end -}}

{{/* For what belongs to no single process. */}}
{{- define "crucible.labels" -}}
app.kubernetes.io/name: crucible
app.kubernetes.io/instance: {{ .Release.Name }}
{{ include "crucible.commonLabels" . }}
{{- end -}}

{{/* (dict "root" . "image" "operator") → repository:tag, or repository@digest */}}
{{- define "crucible.image" -}}
{{- $image := get .root.Values.images .image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "crucible.imagePullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Names of the service accounts; those of the sandboxes live in every evaluation namespace. */}}
{{- define "crucible.operatorAccount" -}}{{ include "crucible.fullname" . }}-operator{{- end -}}
{{- define "crucible.recorderAccount" -}}{{ include "crucible.fullname" . }}-recorder{{- end -}}
{{- define "crucible.apiAccount" -}}{{ include "crucible.fullname" . }}-api{{- end -}}
{{- define "crucible.operatorUser" -}}system:serviceaccount:{{ .Release.Namespace }}:{{ include "crucible.operatorAccount" . }}{{- end -}}

{{/* Of every pod. fsGroup goes in where there is a volume. */}}
{{- define "crucible.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Where pods go: (dict "root" . "component" .Values.operator) */}}
{{- define "crucible.scheduling" -}}
{{- with .component.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .component.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .component.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .component.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "crucible.evaluationNamespaceNames" -}}
{{- $names := list -}}
{{- range .Values.evaluationNamespaces }}{{ $names = append $names .name }}{{ end -}}
{{ join "," $names }}
{{- end -}}

{{/* evals=10,team-a=5: those that have a limit of their own. */}}
{{- define "crucible.evaluationNamespaceLimits" -}}
{{- $limits := list -}}
{{- range .Values.evaluationNamespaces }}
{{- $settings := mergeOverwrite (deepCopy $.Values.evaluationNamespaceDefaults) (omit . "name") }}
{{- if $settings.maxConcurrent }}{{ $limits = append $limits (printf "%s=%d" .name (int64 $settings.maxConcurrent)) }}{{ end }}
{{- end -}}
{{ join "," $limits }}
{{- end -}}

{{/* ---- Postgres ---- */}}
{{- define "crucible.postgresName" -}}{{ include "crucible.fullname" . }}-postgres{{- end -}}
{{- define "crucible.postgresHost" -}}{{ include "crucible.postgresName" . }}.{{ .Release.Namespace }}.svc{{- end -}}
{{- define "crucible.postgresSecret" -}}
{{- if .Values.postgres.embedded.enabled -}}
{{ .Values.postgres.embedded.existingSecret | default (include "crucible.postgresName" .) }}
{{- else -}}
{{ required "postgres.embedded.enabled is false: name the Secret with the connection strings in postgres.external.existingSecret" .Values.postgres.external.existingSecret }}
{{- end -}}
{{- end -}}

{{/* The connection string of one role as environment variables: (dict "root" . "role" "operator").
     Embedded: put together by the kubelet from the role's password, so that no other role's is in the pod. */}}
{{- define "crucible.postgresEnv" -}}
{{- $role := .role -}}
{{- with .root -}}
{{- if .Values.postgres.embedded.enabled }}
- name: POSTGRES_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "crucible.postgresSecret" . }}
      key: crucible_{{ $role }}
- name: CRUCIBLE_DATABASE_URL
  value: postgresql://crucible_{{ $role }}:$(POSTGRES_PASSWORD)@{{ include "crucible.postgresHost" . }}:5432/crucible?sslmode=verify-full&sslrootcert=/etc/crucible/postgres/ca.crt
{{- else }}
- name: CRUCIBLE_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "crucible.postgresSecret" . }}
      key: {{ get .Values.postgres.external.keys $role }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* The authority that signed the server's certificate; nothing else of the Secret is mounted. */}}
{{- define "crucible.postgresCaKey" -}}
{{- if .Values.postgres.embedded.enabled -}}ca.crt{{- else -}}{{ .Values.postgres.external.caKey }}{{- end -}}
{{- end -}}
{{- define "crucible.postgresCaVolume" -}}
{{- with include "crucible.postgresCaKey" . }}
- name: postgres-ca
  secret:
    secretName: {{ include "crucible.postgresSecret" $ }}
    items:
      - key: {{ . }}
        path: ca.crt
{{- end }}
{{- end -}}
{{- define "crucible.postgresCaMount" -}}
{{- if include "crucible.postgresCaKey" . }}
- name: postgres-ca
  mountPath: /etc/crucible/postgres
  readOnly: true
{{- end }}
{{- end -}}

{{/* ---- Redis ---- */}}
{{- define "crucible.redisName" -}}{{ include "crucible.fullname" . }}-redis{{- end -}}
{{- define "crucible.redisSecret" -}}
{{- if .Values.redis.embedded.enabled -}}
{{ .Values.redis.embedded.existingSecret | default (include "crucible.redisName" .) }}
{{- else -}}
{{ .Values.redis.external.existingSecret }}
{{- end -}}
{{- end -}}
{{/* Empty when there is no Redis at all: it is only speed. */}}
{{- define "crucible.redisEnv" -}}
{{- if .Values.redis.embedded.enabled }}
- name: REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "crucible.redisSecret" . }}
      key: password
- name: CRUCIBLE_REDIS_URL
  value: redis://:$(REDIS_PASSWORD)@{{ include "crucible.redisName" . }}.{{ .Release.Namespace }}.svc:6379/0
{{- else if .Values.redis.external.existingSecret }}
- name: CRUCIBLE_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.redis.external.existingSecret }}
      key: {{ .Values.redis.external.key }}
{{- end }}
{{- end -}}
