import type { Attack, PodTemplate, Smuggled } from '../attack.ts';

// What somebody would put into a sandbox's pod on its way to the node: by a webhook, a controller or the operator's own
// credentials. Each is one change of the template of a Job that is otherwise as the operator makes them. Where Pod
// Security is enforced as well, it may answer first.

const container = (template: PodTemplate) => template.spec.containers[0]!;
const volume = (template: PodTemplate, source: object): unknown => template.spec.volumes.push({ name: 'more', ...source });
const context = (template: PodTemplate) => (container(template).securityContext ??= {});

const SMUGGLED: readonly Smuggled[] = [
  { what: 'hostPath', rule: 'volumes', podSecurity: 'hostPath', change: (t) => volume(t, { hostPath: { path: '/' } }) },
  {
    what: 'projected token',
    rule: 'volumes',
    change: (t) => volume(t, { projected: { sources: [{ serviceAccountToken: { path: 'token' } }] } }),
  },
  { what: 'Secret', rule: 'volumes', change: (t) => volume(t, { secret: { secretName: 'crucible-drill' } }) },
  { what: 'volume on disk', rule: 'volumes', change: (t) => volume(t, { emptyDir: {} }) },
  {
    what: "another run's code",
    rule: 'configMap',
    change: (t) => volume(t, { configMap: { name: 'crucible-drill-other' } }),
  },
  {
    what: 'privileged',
    rule: 'containers.privilege',
    podSecurity: 'privileged',
    change: (t) => Object.assign(context(t), { privileged: true, allowPrivilegeEscalation: true }),
  },
  {
    what: 'escalation',
    rule: 'containers.privilege',
    podSecurity: 'allowPrivilegeEscalation',
    change: (t) => delete context(t)['allowPrivilegeEscalation'],
  },
  {
    what: 'SYS_ADMIN',
    rule: 'containers.capabilities',
    podSecurity: 'capabilities',
    change: (t) => (context(t)['capabilities'] = { drop: ['ALL'], add: ['SYS_ADMIN'] }),
  },
  {
    what: 'NET_BIND_SERVICE',
    rule: 'containers.capabilities',
    change: (t) => (context(t)['capabilities'] = { drop: ['ALL'], add: ['NET_BIND_SERVICE'] }),
  },
  {
    what: 'writable root',
    rule: 'containers.readOnlyRootFilesystem',
    change: (t) => delete context(t)['readOnlyRootFilesystem'],
  },
  { what: 'service account', rule: 'serviceAccountName', change: (t) => (t.spec['serviceAccountName'] = 'default') },
  {
    what: 'token',
    rule: 'automountServiceAccountToken',
    change: (t) => (t.spec['automountServiceAccountToken'] = true),
  },
  { what: 'every toleration', rule: 'tolerations', change: (t) => (t.spec['tolerations'] = [{ operator: 'Exists' }]) },
  { what: 'nodeName', rule: 'nodeName', change: (t) => (t.spec['nodeName'] = 'crucible-drill-no-such-node') },
  {
    what: 'sysctl',
    rule: 'securityContext.sysctls',
    change: (t) =>
      (t.spec.securityContext['sysctls'] = [{ name: 'net.ipv4.ip_unprivileged_port_start', value: '0' }]),
  },
  {
    what: 'low uid',
    rule: 'identity',
    change: (t) => (t.spec.securityContext['runAsUser'] = 1000),
  },
  {
    what: 'no seccomp',
    rule: 'seccompProfile',
    podSecurity: 'seccompProfile',
    change: (t) => (t.spec.securityContext['seccompProfile'] = { type: 'Unconfined' }),
  },
  {
    what: 'shareProcessNamespace',
    rule: 'shareProcessNamespace',
    change: (t) => (t.spec['shareProcessNamespace'] = true),
  },
  {
    what: 'hostUsers with root',
    rule: 'hostUsers',
    podSecurity: 'runAsUser=0',
    change: (t) => {
      t.spec['hostUsers'] = false;
      Object.assign(t.spec.securityContext, { runAsUser: 0, runAsNonRoot: false });
    },
  },
  { what: 'hostNetwork', rule: 'hostNetwork', podSecurity: 'hostNetwork', change: (t) => (t.spec['hostNetwork'] = true) },
  { what: 'hostPID', rule: 'hostPID', podSecurity: 'hostPID', change: (t) => (t.spec['hostPID'] = true) },
  {
    what: "the cluster's DNS",
    rule: 'dns',
    change: (t) => Object.assign(t.spec, { dnsPolicy: 'ClusterFirst', dnsConfig: undefined }),
  },
  { what: 'host name', rule: 'hostname', change: (t) => (t.spec['hostname'] = 'database') },
  { what: 'no deadline', rule: 'once', change: (t) => delete t.spec['activeDeadlineSeconds'] },
  {
    what: 'second container',
    rule: 'containers',
    change: (t) => t.spec.containers.push({ ...structuredClone(container(t)), name: 'more' }),
  },
  { what: 'own entry point', rule: 'command', change: (t) => (container(t)['command'] = ['python3']) },
  {
    what: 'Secret in a variable',
    rule: 'containers.env',
    change: (t) => (container(t)['env'] = [{ name: 'A', valueFrom: { secretKeyRef: { name: 'a', key: 'b' } } }]),
  },
  {
    what: 'writable settings',
    rule: 'volumeMounts',
    change: (t) => delete container(t).volumeMounts.find(({ name }) => name === 'config')!['readOnly'],
  },
  {
    what: 'mount over the system',
    rule: 'volumeMounts',
    change: (t) => (container(t).volumeMounts.find(({ name }) => name === 'work')!['mountPath'] = '/etc'),
  },
  { what: 'no sandbox label', rule: 'labels', change: (t) => delete t.metadata.labels['crucible.dev/sandbox'] },
  { what: 'no finalizer', rule: 'finalizer', change: (t) => delete t.metadata['finalizers'] },
  {
    what: 'another RuntimeClass than asked for',
    rule: 'runtimeClassName',
    change: (t) => (t.metadata.annotations['crucible.dev/runtime-class'] = 'crucible-drill-other'),
  },
  {
    what: "gVisor's settings",
    rule: 'annotations',
    change: (t) => (t.metadata.annotations['dev.gvisor.flag.network'] = 'host'),
  },
];

export const smuggling: Attack = {
  id: 'smuggling',
  rule: 29,
  title: 'smuggled pods are refused',
  tries: `${SMUGGLED.length} Jobs, each with one forbidden change in its pod, and one without any; other labels on a pod that runs. None could start: what they would mount does not exist.`,
  why: 'Whatever the sandbox refuses from inside, a pod that is made otherwise simply has.',
  proves: 'Each pod is refused at admission by the rule that is meant for it, and the unchanged one is admitted.',
  quick: false,
  method: { kind: 'smuggle', smuggled: SMUGGLED },
};
