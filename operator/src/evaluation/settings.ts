import type { UidRange } from './sandbox-uid.ts';

/** What an installation decides; config.ts reads it from the environment. */
export interface Settings {
  /** Namespaces the operator has been given rights in. */
  readonly evaluationNamespaces: readonly string[];
  /** Evaluations that may hold a Job at once, over all namespaces. */
  readonly maxConcurrent: number;
  /** The same for single namespaces. */
  readonly namespaceLimits: Readonly<Record<string, number>>;
  /** Ended runs whose output is not stored yet, from which on nothing new begins. */
  readonly maxUncaptured: number;
  /** Crucible's own namespace: its pause switch is everyone's. Undefined outside of a cluster. */
  readonly ownNamespace: string | undefined;
  /** Kueue is there, and spec.queue may name its queues. */
  readonly kueue: boolean;
  readonly sandbox: SandboxSettings;
  readonly patience: Patience;
  /** How long a finished Job and its pod stay to be looked at. */
  readonly jobTtlSeconds: number;
}

export interface SandboxSettings {
  /** RuntimeClass when neither the Evaluation nor its runtime names one; undefined is the cluster's default runtime. */
  readonly runtimeClassName: string | undefined;
  /** Brings the launcher into images that do not carry it. */
  readonly launcherImage: string;
  readonly serviceAccountName: string;
  readonly imagePullPolicy: 'IfNotPresent' | 'Always' | 'Never';
  readonly imagePullSecrets: readonly string[];
  readonly uids: UidRange;
  /** Of the CPU limit; memory is never overcommitted, CPU time may be. */
  readonly cpuRequestPercent: number;
  /** For the launcher and the kernel's own accounting, on top of what the code may use. */
  readonly memoryOverheadBytes: number;
  readonly tmpBytes: number;
  readonly shmBytes: number;
  readonly ephemeralStorageBytes: number;
  readonly processes: number;
  readonly openFiles: number;
  /** Between SIGTERM and SIGKILL. */
  readonly graceSeconds: number;
  /** Ignores groups that the image's /etc/group gives the uid (KEP-3619). Only off for clusters before 1.31. */
  readonly strictSupplementalGroups: boolean;
}

/** How long to wait for something that may still come right, in seconds, before the run ends with a verdict. */
export interface Patience {
  /** From the node's decision to the code's first instruction. */
  readonly startUp: number;
  /** For a failing image pull: registries hiccup, and the kubelet tries again. */
  readonly imagePull: number;
  readonly unschedulable: number;
  readonly quota: number;
  /** For a pod that admission refuses: policies are eventually consistent too. */
  readonly refused: number;
  /** For a capture of a pod that no longer exists: the recorder may be storing what it has. */
  readonly lostCapture: number;
}
