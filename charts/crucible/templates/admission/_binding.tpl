{{/* A list of strings in CEL. */}}
{{- define "crucible.celStrings" -}}
[{{ range $i, $text := . }}{{ if $i }}, {{ end }}{{ $text | squote }}{{ end }}]
{{- end -}}

{{/* Who asks, as CEL variables. They cost nothing where they are not used. */}}
{{- define "crucible.admissionVariables" -}}
- name: isOperator
  expression: request.userInfo.username == {{ include "crucible.operatorUser" . | squote }}
- name: isJobController
  expression: request.userInfo.username in {{ include "crucible.celStrings" .Values.admission.jobControllers }}
- name: isQueue
  expression: request.userInfo.username in {{ include "crucible.celStrings" .Values.admission.queueControllers }}
- name: isCleaner
  expression: request.userInfo.username in {{ include "crucible.celStrings" .Values.admission.cleaners }}
- name: isMaster
  expression: "has(request.userInfo.groups) && 'system:masters' in request.userInfo.groups"
- name: isAdministrator
  expression: variables.isMaster || request.userInfo.username in {{ include "crucible.celStrings" .Values.admission.administrators }}
{{- end -}}

{{/* An owner that does not exist has the garbage collector delete an object. */}}
{{- define "crucible.ownerVariables" -}}
- name: keepsOwners
  expression: >-
    has(object.metadata.ownerReferences) == has(oldObject.metadata.ownerReferences)
    && (!has(object.metadata.ownerReferences) || object.metadata.ownerReferences == oldObject.metadata.ownerReferences)
{{- end -}}

{{/* What says which attempt a Job or pod is: compared between the old and the new object. */}}
{{- define "crucible.identityVariables" -}}
- name: labels
  expression: "has(object.metadata.labels) ? object.metadata.labels : {}"
- name: oldLabels
  expression: "has(oldObject.metadata.labels) ? oldObject.metadata.labels : {}"
- name: annotations
  expression: "has(object.metadata.annotations) ? object.metadata.annotations : {}"
- name: oldAnnotations
  expression: "has(oldObject.metadata.annotations) ? oldObject.metadata.annotations : {}"
- name: keepsLabels
  expression: >-
    ['crucible.dev/sandbox', 'crucible.dev/evaluation-uid', 'crucible.dev/evaluation', 'crucible.dev/attempt'].all(l,
    (l in variables.labels) == (l in variables.oldLabels)
    && (!(l in variables.labels) || variables.labels[l] == variables.oldLabels[l]))
# The operator reads its own, container runtimes read theirs (gVisor and Kata even settings of the sandbox). Controllers
# that touch neither must get through however many others there are: they compare equal, at little cost.
- name: keepsAnnotations
  expression: >-
    variables.annotations == variables.oldAnnotations
    || (variables.annotations.all(a, !a.matches({{ include "crucible.guardedAnnotations" . }})
    || (a in variables.oldAnnotations && variables.oldAnnotations[a] == variables.annotations[a]))
    && variables.oldAnnotations.all(a, a in variables.annotations || !a.matches({{ include "crucible.guardedAnnotations" . }})))
{{- end -}}

{{- define "crucible.runtimeAnnotations" -}}dev[.]gvisor[.]|io[.]katacontainers[.]|io[.]kubernetes[.]cri|([^/]*[.])?(apparmor|seccomp)[^/]*[.]kubernetes[.]io/|io[.]containerd[.]|run[.]oci[.]{{- end -}}
{{- define "crucible.guardedAnnotations" -}}'^(crucible[.]dev/|{{ include "crucible.runtimeAnnotations" . }})'{{- end -}}

{{/* In every namespace that carries the label, also one that somebody else labelled. */}}
{{- define "crucible.admissionNamespaces" -}}
namespaceSelector:
  matchLabels:
    crucible.dev/evaluations: enabled
{{- end -}}

{{/* (dict "root" . "name" "jobs"), and "params" true where the policy is asked once for every object of its paramKind */}}
{{- define "crucible.admissionBinding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ include "crucible.fullname" .root }}-{{ .name }}
  labels: {{- include "crucible.labels" .root | nindent 4 }}
spec:
  policyName: {{ include "crucible.fullname" .root }}-{{ .name }}
  validationActions: [Deny]
  {{- if .params }}
  paramRef:
    selector: {}
    # A pod that names one that does not exist is refused by Kubernetes itself.
    parameterNotFoundAction: Allow
  {{- end }}
{{- end -}}
