{{/* Which file store, and what may be kept in it. The keys are files: nothing secret is in the environment. */}}
{{- define "crucible.fileStoreEnv" -}}
{{ include "crucible.fileStoreLocationEnv" . }}
{{- with .Values.fileStore }}
- name: CRUCIBLE_ARTIFACT_MAX_RUN_BYTES
  value: {{ .quota.runBytes | int64 | quote }}
- name: CRUCIBLE_ARTIFACT_MAX_RUN_FILES
  value: {{ .quota.runFiles | int64 | quote }}
- name: CRUCIBLE_ARTIFACT_MAX_NAMESPACE_BYTES
  value: {{ .quota.namespaceBytes | int64 | quote }}
- name: CRUCIBLE_ORPHAN_GRACE_HOURS
  value: {{ .orphanGraceHours | int64 | quote }}
- name: CRUCIBLE_RETENTION_OUTPUT_DAYS
  value: {{ .retention.outputDays | int64 | quote }}
- name: CRUCIBLE_RETENTION_ARTIFACTS_DAYS
  value: {{ .retention.artifactsDays | int64 | quote }}
- name: CRUCIBLE_RETENTION_RECORDS_DAYS
  value: {{ .retention.recordsDays | int64 | quote }}
{{- end }}
{{- end -}}

{{/* Where it is, for those who only read too. */}}
{{- define "crucible.fileStoreLocationEnv" -}}
{{- with .Values.fileStore -}}
{{- if eq .type "s3" }}
{{- $query := printf "region=%s" .s3.region }}
{{- if .s3.endpoint }}
{{- $query = printf "%s&endpoint=%s" $query (urlquery .s3.endpoint) }}
{{- end }}
{{- $bucket := required "fileStore.type is s3: name the bucket in fileStore.s3.bucket" .s3.bucket }}
- name: CRUCIBLE_FILE_STORE_URL
  value: {{ printf "s3://%s/%s?%s" $bucket .s3.prefix $query | quote }}
- name: CRUCIBLE_FILE_STORE_ACCESS_KEY_FILE
  value: {{ printf "/etc/crucible/file-store/%s" .s3.accessKeyIdKey | quote }}
- name: CRUCIBLE_FILE_STORE_SECRET_KEY_FILE
  value: {{ printf "/etc/crucible/file-store/%s" .s3.secretAccessKeyKey | quote }}
{{- with .s3.caKey }}
- name: NODE_EXTRA_CA_CERTS
  value: {{ printf "/etc/crucible/file-store/%s" . | quote }}
{{- end }}
{{- else }}
- name: CRUCIBLE_FILE_STORE_URL
  value: file:///data/files
{{- end }}
{{- end -}}
{{- end -}}
