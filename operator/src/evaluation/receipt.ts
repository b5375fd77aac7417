import { createHash } from 'node:crypto';
import { clip } from '@crucible/crds';
import type { EvaluationStatus } from '@crucible/crds';
import type { AcceptedRiskRecord, AttemptRecord } from '@crucible/storage';
import type { Claim } from './actions.ts';
import type { Pod } from './objects.ts';
import { finishedAt, imageDigest, sandboxSpec, sandboxStatus, startedAt } from './pod.ts';
import { mismatches } from './receipt-check.ts';
import type { Measured, Mismatch } from './receipt-check.ts';

// The receipt of an attempt: what its launcher measured inside the sandbox before the code ran, beside what the API
// server and the kubelet say of the pod. docs/receipt.md describes it.

export interface KubernetesWord {
  readonly pod: { readonly name?: string; readonly uid?: string; readonly node?: string };
  readonly runtimeClassName: string | null;
  readonly runtimeHandler: string | null;
  readonly image: string | null;
  readonly imageDigest: string | null;
  readonly containerID: string | null;
  readonly startedAt: string | null;
  readonly finishedAt: string | null;
  readonly serviceAccountName: string | null;
  readonly automountServiceAccountToken: boolean | null;
  readonly hostUsers: boolean;
  readonly securityContext: { readonly pod: object; readonly container: object };
  readonly limits: Readonly<Record<string, string>>;
}

export interface Receipt {
  readonly version: 1;
  readonly evaluationUid: string;
  readonly attempt: number;
  readonly measuredAt: string;
  readonly runtimeClass: string | null;
  /** Who says so, and who could have said anything else in their place. */
  readonly provenance: {
    readonly kubernetes: { readonly source: string; readonly forgeable: false };
    readonly sandbox: { readonly source: string; readonly forgeable: true; readonly by: string };
  };
  readonly kubernetes: KubernetesWord | null;
  readonly sandbox: unknown;
  readonly mismatches: readonly Mismatch[];
  /** What the platform cannot give, as measured; docs/threat-model.md says why. */
  readonly open: readonly string[];
  /** Weaknesses that the installation accepted when the attempt was admitted. */
  readonly acceptedRisks: readonly AcceptedRiskRecord[];
}

export interface ReceiptInput {
  readonly attempt: AttemptRecord;
  /** As last seen; undefined when it is gone. */
  readonly pod: Pod | undefined;
  readonly measured: unknown;
  readonly runtimeHandler: string | undefined;
  readonly now: number;
}

/** For an attempt whose code has run. Pure. */
export function buildReceipt(input: ReceiptInput): Receipt {
  const { attempt, pod, measured, now } = input;
  const kubernetes = pod === undefined ? null : kubernetesWord(pod, input.runtimeHandler);
  const sandbox = asMeasured(measured);
  const installed = pod?.status?.initContainerStatuses?.some(({ name }) => name === 'launcher') ?? false;
  return {
    version: 1,
    evaluationUid: attempt.evaluationUid,
    attempt: attempt.number,
    measuredAt: measuredAt(sandbox, kubernetes, now),
    runtimeClass: attempt.runtimeClass,
    provenance: {
      kubernetes: { source: 'API server and kubelet', forgeable: false },
      sandbox: {
        source: 'the launcher, before it started the code',
        forgeable: true,
        by: installed
          ? 'code that took over the launcher in the moment it started'
          : 'whoever built the image, which carries the launcher; and code that took over the launcher in the moment it started',
      },
    },
    kubernetes,
    sandbox: measured ?? null,
    mismatches: mismatches({ sandbox, kubernetes, attempt }),
    open: openRules(sandbox),
    acceptedRisks: attempt.acceptedRisks ?? [],
  };
}

function kubernetesWord(pod: Pod, handler: string | undefined): KubernetesWord {
  const container = sandboxSpec(pod);
  return {
    pod: {
      ...(pod.metadata.name !== undefined && { name: pod.metadata.name }),
      ...(pod.metadata.uid !== undefined && { uid: pod.metadata.uid }),
      ...(pod.spec?.nodeName !== undefined && { node: pod.spec.nodeName }),
    },
    runtimeClassName: pod.spec?.runtimeClassName ?? null,
    runtimeHandler: handler ?? null,
    image: container?.image ?? null,
    imageDigest: imageDigest(pod) ?? null,
    containerID: sandboxStatus(pod)?.containerID ?? null,
    startedAt: startedAt(pod) ?? null,
    finishedAt: finishedAt(pod) ?? null,
    serviceAccountName: pod.spec?.serviceAccountName ?? null,
    automountServiceAccountToken: pod.spec?.automountServiceAccountToken ?? null,
    hostUsers: pod.spec?.hostUsers ?? true,
    securityContext: { pod: pod.spec?.securityContext ?? {}, container: container?.securityContext ?? {} },
    limits: container?.resources?.limits ?? {},
  };
}

function asMeasured(value: unknown): Measured | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Measured) : undefined;
}

/** The sandbox's own clock; without a measurement, when the kubelet started it. */
function measuredAt(sandbox: Measured | undefined, kubernetes: KubernetesWord | null, now: number): string {
  const said = typeof sandbox?.measuredAt === 'string' ? Date.parse(sandbox.measuredAt) : Number.NaN;
  if (!Number.isNaN(said)) return new Date(said).toISOString();
  return kubernetes?.startedAt ?? new Date(now).toISOString();
}

function openRules(sandbox: Measured | undefined): string[] {
  if (sandbox === undefined) return [];
  const open: string[] = [];
  if (sandbox.userNamespace === false) open.push('userNamespace');
  if (sandbox.terminationMessageWritable === true) open.push('terminationMessage');
  return open;
}

// ------------------------------------------------------------------------------------------------ what a status says

/** A receipt as it comes back from the record. */
export function asReceipt(stored: unknown): Receipt | undefined {
  return typeof stored === 'object' && stored !== null && (stored as Receipt).version === 1
    ? (stored as Receipt)
    : undefined;
}

export function receiptView(receipt: Receipt): NonNullable<EvaluationStatus['receipt']> {
  return {
    digest: receiptDigest(receipt),
    measuredAt: receipt.measuredAt.replace(/\.\d+Z$/, 'Z'),
    ...(receipt.runtimeClass !== null && { runtimeClass: receipt.runtimeClass }),
  };
}

export function containedClaim(receipt: Receipt): Claim {
  const { mismatches, acceptedRisks } = receipt;
  if (receipt.sandbox === null) {
    return { status: 'Unknown', reason: 'NotMeasured', message: 'No measurement of its containment arrived.' };
  }
  if (mismatches.length > 0) {
    const rules = [...new Set(mismatches.map(({ rule }) => rule))].join(', ');
    return {
      status: 'False',
      reason: 'ReceiptMismatch',
      message: `Measured inside the sandbox otherwise than it should be: ${rules}. The receipt in the record says how.`,
    };
  }
  if (acceptedRisks.length > 0) {
    return {
      status: 'True',
      reason: 'RisksAccepted',
      message: `Measured as it should be, on a platform with weaknesses that were accepted: ${clip(acceptedRisks.map(({ reason }) => reason).join('; '), 256)}.`,
    };
  }
  return { status: 'True', reason: 'Measured', message: 'Its containment was measured before the code ran.' };
}

/** Over canonical JSON: jsonb does not keep the order of keys. */
export function receiptDigest(receipt: unknown): string {
  return `sha256:${createHash('sha256')
    .update(JSON.stringify(sortKeys(receipt)))
    .digest('hex')}`;
}

function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, item]) => [key, sortKeys(item)]),
  );
}
