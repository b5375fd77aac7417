import { buildJob } from '../../operator/src/evaluation/job.ts';

// What the admission policies are tried with: Jobs and pods as the operator makes them, so that policies and operator
// cannot drift apart, and ways to smuggle something into such a pod.

const MI = 1024 * 1024;

export interface Variant {
  /** Otherwise an init container brings the launcher. */
  readonly launcherIncluded?: boolean;
  readonly runtimeClassName?: string;
}

// Whatever the kind has; tests look into it and change it.
type Loose = Record<string, any>;

export function sandboxJob(name: string, { launcherIncluded = true, runtimeClassName }: Variant = {}): Loose {
  return buildJob({
    run: {
      image: 'docker.io/crucible/runtime-python:1', command: ['python3', '/crucible/code/main.py'], launcherIncluded, env: {},
      files: [{ path: 'main.py', content: 'print(1)' }], stdin: '', cpuMilli: 1000, memoryBytes: 256 * MI, diskBytes: 64 * MI,
      timeoutSeconds: 60, streamBytes: MI, artifacts: undefined, runtimeClassName, queue: undefined,
    },
    identity: { namespace: 'evals', name, uid: '8c0bd4d2-6b3c-4f0e-9f8e-0c8de3e0a001', attempt: 1 },
    sandboxUid: 20_001,
    settings: {
      runtimeClassName: undefined, launcherImage: 'docker.io/crucible/launcher:1', serviceAccountName: 'crucible-sandbox',
      imagePullPolicy: 'IfNotPresent', imagePullSecrets: ['registry'], uids: { first: 20_000, last: 29_999 }, cpuRequestPercent: 25,
      memoryOverheadBytes: 32 * MI, tmpBytes: 16 * MI, shmBytes: 16 * MI, ephemeralStorageBytes: 32 * MI, processes: 128,
      openFiles: 1024, graceSeconds: 5, strictSupplementalGroups: true,
    },
    patience: { startUp: 120, imagePull: 60, unschedulable: 60, quota: 60, refused: 60, lostCapture: 60 },
  });
}

/** The pod that the job controller makes of it. */
export function sandboxPod(variant: Variant = {}, change: (pod: any) => void = () => undefined): Loose {
  const job = sandboxJob('pod', variant);
  const template = structuredClone(job['spec'].template);
  const labels = { ...template.metadata.labels, 'batch.kubernetes.io/job-name': job['metadata'].name };
  const pod = { apiVersion: 'v1', kind: 'Pod', ...template, metadata: { name: 'pod', ...template.metadata, labels } };
  change(pod);
  return pod;
}

/** What it runs, labelled as the operator labels it. */
export function inputs(name = 'inputs', ownerReferences: object[] = []): object {
  const labels = sandboxJob('inputs')['metadata'].labels;
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, labels, ownerReferences }, data: { f0: 'print(1)' } };
}

export const RUNTIME_CLASS = {
  apiVersion: 'node.k8s.io/v1',
  kind: 'RuntimeClass',
  metadata: { name: 'strong' },
  handler: 'strong',
  overhead: { podFixed: { cpu: '100m', memory: '64Mi' } },
  scheduling: { nodeSelector: { strong: 'yes' }, tolerations: [{ key: 'strong', operator: 'Exists', effect: 'NoSchedule' }] },
};

export const priorityClass = (name: string, globalDefault = false): object => ({
  apiVersion: 'scheduling.k8s.io/v1', kind: 'PriorityClass', metadata: { name }, value: 1000, globalDefault,
});

const container = (pod: any): any => pod.spec.containers[0];
const mount = (pod: any, name: string): any => container(pod).volumeMounts.find((each: any) => each.name === name);
const addVolume = (pod: any, source: object): unknown => pod.spec.volumes.push({ name: 'more', ...source });
const tolerate = (pod: any, toleration: object): unknown => (pod.spec.tolerations = [toleration]);
const PROBE = { exec: { command: ['a'] } };

/** What is smuggled in, how, and the rule that must refuse it. */
export const REFUSED: [string, (pod: any) => void, string][] = [
  ['no sandbox label', (pod) => delete pod.metadata.labels['crucible.dev/sandbox'], 'labels'],
  ['another value of it', (pod) => (pod.metadata.labels['crucible.dev/sandbox'] = 'false'), 'labels'],
  ['no evaluation', (pod) => delete pod.metadata.labels['crucible.dev/evaluation-uid'], 'labels'],
  ['no finalizer', (pod) => delete pod.metadata.finalizers, 'finalizer'],
  ["gVisor's settings", (pod) => (pod.metadata.annotations['dev.gvisor.flag.network'] = 'host'), 'annotations'],
  ["Kata's settings", (pod) => (pod.metadata.annotations['io.katacontainers.config.hypervisor.kernel_params'] = 'a'), 'annotations'],
  ['another RuntimeClass than was asked for', (pod) => (pod.metadata.annotations['crucible.dev/runtime-class'] = 'strong'), 'runtimeClassName'],
  ['no word of its RuntimeClass', (pod) => delete pod.metadata.annotations['crucible.dev/runtime-class'], 'runtimeClassName'],
  ['another image than was asked for', (pod) => (container(pod).image = 'docker.io/library/other:1'), 'image'],
  ['no word of its image', (pod) => delete pod.metadata.annotations['crucible.dev/image'], 'image'],
  ['affinity', (pod) => (pod.spec.affinity = { podAffinity: {} }), 'affinity'],
  ['host aliases', (pod) => (pod.spec.hostAliases = [{ ip: '1.2.3.4', hostnames: ['a'] }]), 'hostAliases'],
  ["the host's users", (pod) => (pod.spec.hostUsers = true), 'hostUsers'],
  ['users of its own, and root', (pod) => Object.assign(pod.spec, { hostUsers: false, securityContext: { runAsUser: 0 } }), 'hostUsers'],
  ['a host name', (pod) => (pod.spec.hostname = 'database'), 'hostname'],
  ['a domain', (pod) => (pod.spec.subdomain = 'a'), 'subdomain'],
  ['a full host name', (pod) => (pod.spec.setHostnameAsFQDN = true), 'setHostnameAsFQDN'],
  ['a node', (pod) => (pod.spec.nodeName = 'n'), 'nodeName'],
  ['an operating system', (pod) => (pod.spec.os = { name: 'linux' }), 'os'],
  ['a readiness gate', (pod) => (pod.spec.readinessGates = [{ conditionType: 'a.com/b' }]), 'readinessGates'],
  ['a resource claim', (pod) => (pod.spec.resourceClaims = [{ name: 'gpu', resourceClaimName: 'gpu' }]), 'resourceClaims'],
  ['resources of the pod', (pod) => (pod.spec.resources = { limits: { cpu: '4', memory: '4Gi' } }), 'resources'],
  ['a scheduling gate', (pod) => (pod.spec.schedulingGates = [{ name: 'a.com/b' }]), 'schedulingGates'],
  ['a spread', (pod) => (pod.spec.topologySpreadConstraints = [{ maxSkew: 1, topologyKey: 'a', whenUnsatisfiable: 'DoNotSchedule' }]), 'topologySpreadConstraints'],
  ['host network', (pod) => (pod.spec.hostNetwork = true), 'hostNetwork'],
  ['host processes', (pod) => (pod.spec.hostPID = true), 'hostPID'],
  ['host IPC', (pod) => (pod.spec.hostIPC = true), 'hostIPC'],
  ['shared processes', (pod) => (pod.spec.shareProcessNamespace = true), 'shareProcessNamespace'],
  ['a token', (pod) => (pod.spec.automountServiceAccountToken = true), 'automountServiceAccountToken'],
  ['a token by default', (pod) => delete pod.spec.automountServiceAccountToken, 'automountServiceAccountToken'],
  ['another service account', (pod) => (pod.spec.serviceAccountName = 'researcher'), 'serviceAccountName'],
  ['service links', (pod) => (pod.spec.enableServiceLinks = true), 'enableServiceLinks'],
  ["the cluster's DNS", (pod) => (pod.spec.dnsPolicy = 'ClusterFirst'), 'dns'],
  ["the node's DNS", (pod) => Object.assign(pod.spec, { dnsPolicy: 'Default', dnsConfig: undefined }), 'dns'],
  ['another resolver', (pod) => pod.spec.dnsConfig.nameservers.push('9.9.9.9'), 'dns'],
  ['a search domain', (pod) => (pod.spec.dnsConfig.searches = ['svc.cluster.local']), 'dns'],
  ['a restart', (pod) => (pod.spec.restartPolicy = 'OnFailure'), 'once'],
  ['no deadline', (pod) => delete pod.spec.activeDeadlineSeconds, 'once'],
  ['another scheduler', (pod) => (pod.spec.schedulerName = 'mine'), 'schedulerName'],
  ['chosen nodes', (pod) => (pod.spec.nodeSelector = { 'node-role.kubernetes.io/control-plane': '' }), 'nodeSelector'],
  ['a toleration of everything', (pod) => tolerate(pod, { operator: 'Exists' }), 'tolerations'],
  ['the control plane', (pod) => tolerate(pod, { key: 'node-role.kubernetes.io/control-plane', operator: 'Exists', effect: 'NoSchedule' }), 'tolerations'],
  ['a lost node for ever', (pod) => tolerate(pod, { key: 'node.kubernetes.io/unreachable', operator: 'Exists', effect: 'NoExecute' }), 'tolerations'],
  ['a priority', (pod) => (pod.spec.priorityClassName = 'important'), 'priorityClassName'],
  ["a system pod's priority", (pod) => (pod.spec.priorityClassName = 'system-node-critical'), 'priorityClassName'],
  ['a low uid', (pod) => (pod.spec.securityContext.runAsUser = 1000), 'identity'],
  ['a low gid', (pod) => (pod.spec.securityContext.runAsGroup = 0), 'identity'],
  ['maybe root', (pod) => delete pod.spec.securityContext.runAsNonRoot, 'identity'],
  ['no seccomp', (pod) => (pod.spec.securityContext.seccompProfile = { type: 'Unconfined' }), 'seccompProfile'],
  ['the groups that the image gives it', (pod) => delete pod.spec.securityContext.supplementalGroupsPolicy, 'supplementalGroupsPolicy'],
  ["the image's groups", (pod) => (pod.spec.securityContext.supplementalGroupsPolicy = 'Merge'), 'supplementalGroupsPolicy'],
  ['a group', (pod) => (pod.spec.securityContext.supplementalGroups = [20_000]), 'securityContext.supplementalGroups'],
  ["volumes' group", (pod) => (pod.spec.securityContext.fsGroup = 20_000), 'securityContext.fsGroup'],
  ['a sysctl', (pod) => (pod.spec.securityContext.sysctls = [{ name: 'net.ipv4.ip_unprivileged_port_start', value: '0' }]), 'securityContext.sysctls'],
  ['SELinux options', (pod) => (pod.spec.securityContext.seLinuxOptions = { type: 'spc_t' }), 'securityContext.seLinuxOptions'],
  ['no AppArmor', (pod) => (pod.spec.securityContext.appArmorProfile = { type: 'Unconfined' }), 'securityContext.appArmorProfile'],
  ['a second container', (pod) => pod.spec.containers.push({ ...container(pod), name: 'more' }), 'containers'],
  ['another init container', (pod) => (pod.spec.initContainers = [{ ...container(pod), name: 'more' }]), 'initContainers'],
  ['its own entry point', (pod) => (container(pod).command = ['python3']), 'command'],
  ['settings of its own', (pod) => (container(pod).args = ['/work/launcher.json']), 'command'],
  ['an environment', (pod) => (container(pod).env = [{ name: 'A', value: 'b' }]), 'containers.env'],
  ['a Secret in a variable', (pod) => (container(pod).env = [{ name: 'A', valueFrom: { secretKeyRef: { name: 's', key: 'k' } } }]), 'containers.env'],
  ['a Secret in the environment', (pod) => (container(pod).envFrom = [{ secretRef: { name: 's' } }]), 'containers.envFrom'],
  ['a hook', (pod) => (container(pod).lifecycle = { preStop: PROBE }), 'containers.lifecycle'],
  ['a liveness probe', (pod) => (container(pod).livenessProbe = PROBE), 'containers.livenessProbe'],
  ['a readiness probe', (pod) => (container(pod).readinessProbe = PROBE), 'containers.readinessProbe'],
  ['a start-up probe', (pod) => (container(pod).startupProbe = PROBE), 'containers.startupProbe'],
  ['a port', (pod) => (container(pod).ports = [{ containerPort: 80 }]), 'containers.ports'],
  ['a port of the host', (pod) => (container(pod).ports = [{ containerPort: 80, hostPort: 80 }]), 'containers.ports'],
  ['a sidecar', (pod) => (pod.spec.initContainers = [{ ...container(pod), command: undefined, args: ['install', '/crucible/bin/launcher'], name: 'launcher', restartPolicy: 'Always' }]), 'containers.restartPolicy'],
  ['standard input', (pod) => (container(pod).stdin = true), 'containers.stdin'],
  ['a terminal', (pod) => (container(pod).tty = true), 'containers.tty'],
  ['a termination message within reach', (pod) => delete container(pod).terminationMessagePath, 'containers.terminationMessage'],
  ['a termination message elsewhere', (pod) => (container(pod).terminationMessagePath = '/work/message'), 'containers.terminationMessage'],
  ['a termination message of the log', (pod) => (container(pod).terminationMessagePolicy = 'FallbackToLogsOnError'), 'containers.terminationMessage'],
  ['a device', (pod) => Object.values(container(pod).resources).forEach((amounts: any) => (amounts['a.com/gpu'] = 1)), 'containers.resources'],
  ['no limit', (pod) => delete container(pod).resources.limits['ephemeral-storage'], 'containers.resources'],
  ['privilege', (pod) => Object.assign(container(pod).securityContext, { privileged: true, allowPrivilegeEscalation: true }), 'containers.privilege'],
  ['escalation', (pod) => delete container(pod).securityContext.allowPrivilegeEscalation, 'containers.privilege'],
  ['a writable root', (pod) => delete container(pod).securityContext.readOnlyRootFilesystem, 'containers.readOnlyRootFilesystem'],
  ['a capability', (pod) => (container(pod).securityContext.capabilities.add = ['NET_BIND_SERVICE']), 'containers.capabilities'],
  ['the default capabilities', (pod) => delete container(pod).securityContext.capabilities, 'containers.capabilities'],
  ["a container's own uid", (pod) => (container(pod).securityContext.runAsUser = 20_002), 'containers.securityContext.runAsUser'],
  ["a container's own seccomp", (pod) => (container(pod).securityContext.seccompProfile = { type: 'Unconfined' }), 'containers.securityContext.seccompProfile'],
  ['a hostPath', (pod) => addVolume(pod, { hostPath: { path: '/' } }), 'volumes'],
  ['a projected token', (pod) => addVolume(pod, { projected: { sources: [{ serviceAccountToken: { path: 't' } }] } }), 'volumes'],
  ['a Secret', (pod) => addVolume(pod, { secret: { secretName: 's' } }), 'volumes'],
  ["the pod's own metadata", (pod) => addVolume(pod, { downwardAPI: { items: [{ path: 'a', fieldRef: { fieldPath: 'metadata.uid' } }] } }), 'volumes'],
  ['a claim', (pod) => addVolume(pod, { persistentVolumeClaim: { claimName: 'c' } }), 'volumes'],
  ['a claim made for it', (pod) => addVolume(pod, { ephemeral: { volumeClaimTemplate: { spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } } } } }), 'volumes'],
  ['an NFS share', (pod) => addVolume(pod, { nfs: { server: 's', path: '/' } }), 'volumes'],
  ['a driver', (pod) => addVolume(pod, { csi: { driver: 'a.com' } }), 'volumes'],
  ['a volume on disk', (pod) => addVolume(pod, { emptyDir: {} }), 'volumes'],
  ['a volume without limit', (pod) => addVolume(pod, { emptyDir: { medium: 'Memory' } }), 'volumes'],
  ["another attempt's code", (pod) => (pod.spec.volumes[0].configMap.name = 'other-0123abcd-1'), 'configMap'],
  ['a block device', (pod) => (container(pod).volumeDevices = [{ name: 'block', devicePath: '/dev/a' }], addVolume(pod, { name: 'block', persistentVolumeClaim: { claimName: 'c' } })), 'containers.volumeDevices'],
  ['shared memory of gVisor’s own', (pod) => (mount(pod, 'shm').mountPath = '/dev/shm'), 'volumeMounts'],
  ['a mount over the system', (pod) => (mount(pod, 'work').mountPath = '/etc'), 'volumeMounts'],
  ['a part of a volume', (pod) => (mount(pod, 'work').subPath = 'a'), 'volumeMounts'],
  ['mounts from the node', (pod) => (mount(pod, 'work').mountPropagation = 'HostToContainer'), 'volumeMounts'],
  ['writable settings', (pod) => delete mount(pod, 'config').readOnly, 'volumeMounts'],
];
