{{/* Who may make Jobs and pods in evaluation namespaces, as CEL variables. */}}
{{- define "crucible.admissionVariables" -}}
- name: isOperator
  expression: request.userInfo.username == {{ include "crucible.operatorUser" . | squote }}
- name: isJobController
  expression: request.userInfo.username in [{{ range $i, $user := .Values.admission.jobControllers }}{{ if $i }}, {{ end }}{{ $user | squote }}{{ end }}]
{{- end -}}

{{/* In every namespace that carries the label, also one that somebody else labelled. */}}
{{- define "crucible.admissionNamespaces" -}}
namespaceSelector:
  matchLabels:
    crucible.dev/evaluations: enabled
{{- end -}}

{{/* (dict "root" . "name" "jobs") */}}
{{- define "crucible.admissionBinding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ include "crucible.fullname" .root }}-{{ .name }}
  labels: {{- include "crucible.labels" .root | nindent 4 }}
spec:
  policyName: {{ include "crucible.fullname" .root }}-{{ .name }}
  validationActions: [Deny]
{{- end -}}
