{{/* The key that signs evidence bundles, for the API's pod alone:
       env: crucible.signingKeyEnv, volumeMounts: crucible.signingKeyMount, volumes: crucible.signingKeyVolume */}}
{{- define "crucible.signingKeySecret" -}}
{{ .Values.signingKey.existingSecret | default (printf "%s-signing-key" (include "crucible.fullname" .)) }}
{{- end -}}
{{- define "crucible.signingKeyEnv" -}}
- name: CRUCIBLE_SIGNING_KEY_FILE
  value: /etc/crucible/signing-key/signing-key.pem
{{- end -}}
{{- define "crucible.signingKeyMount" -}}
- name: signing-key
  mountPath: /etc/crucible/signing-key
  readOnly: true
{{- end -}}
{{- define "crucible.signingKeyVolume" -}}
- name: signing-key
  secret:
    secretName: {{ include "crucible.signingKeySecret" . }}
    defaultMode: 0440
    items:
      - key: signing-key.pem
        path: signing-key.pem
{{- end -}}
