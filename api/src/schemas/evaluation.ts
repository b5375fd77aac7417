import * as z from 'zod';
import { timestamp, uid } from './common.ts';

// What the record says of a run. Stored JSON that older versions wrote is shown as it is, so it is typed loosely.

export const verdictSchema = z
  .object({
    class: z.string(),
    attributableTo: z.string().optional(),
    confidence: z.string().optional(),
    message: z.string().optional(),
    evidence: z.array(z.unknown()).readonly().optional(),
  })
  .meta({ id: 'Verdict', description: 'How it ended, whose doing that was, how sure that is, and why.' });

const labels = z.record(z.string(), z.string());

export const summarySchema = z
  .object({
    uid,
    namespace: z.string(),
    namespaceUid: uid,
    name: z.string(),
    labels,
    runtime: z.string().nullable(),
    phase: z.string(),
    priority: z.int(),
    queueReason: z.string().nullable(),
    verdict: verdictSchema.nullable(),
    passed: z.boolean().nullable(),
    attempts: z.int(),
    createdAt: timestamp,
    acceptedAt: timestamp,
    startedAt: timestamp.nullable(),
    exitCode: z.int().nullable(),
    signal: z.string().nullable(),
    finishedAt: timestamp.nullable(),
  })
  .meta({ id: 'EvaluationSummary' });

const ledgerSchema = z
  .object({
    stream: z.enum(['stdout', 'stderr']),
    bytes: z.int().describe('Stored.'),
    lines: z.int(),
    gaps: z.array(z.object({ fromSeq: z.int(), toSeq: z.int(), afterByte: z.int() })).describe('What is known to be lost, and where.'),
    truncated: z.boolean().describe('A cap cut something off.'),
    complete: z.boolean(),
    producedBytes: z.int().nullable().describe('As the launcher counted, before the cap: advisory.'),
    sha256: z.string().nullable().describe('Of the stored bytes, once captured.'),
  })
  .meta({ id: 'StreamLedger', description: 'What is stored of a stream, and what is missing.' });

const captureSchema = z
  .object({
    state: z.enum(['following', 'captured']),
    startedAt: timestamp,
    capturedAt: timestamp.nullable(),
    complete: z.boolean().nullable(),
    reason: z.string().nullable(),
    summary: z.unknown().describe('The launcher’s own: written inside the sandbox, advisory.'),
    receipt: z.unknown().describe('What the launcher measured of its containment.'),
    streams: z.object({ stdout: ledgerSchema, stderr: ledgerSchema }),
    artifacts: z.object({ count: z.int(), bytes: z.int(), refused: z.int(), complete: z.boolean() }),
  })
  .meta({ id: 'Capture' });

const attemptSchema = z
  .object({
    number: z.int(),
    state: z.enum(['created', 'running', 'finalized']),
    jobName: z.string(),
    podName: z.string().nullable(),
    podUid: uid.nullable(),
    node: z.string().nullable(),
    runtimeClass: z.string().nullable(),
    image: z.string(),
    imageDigest: z.string().nullable(),
    timeoutSeconds: z.int().nullable(),
    inputs: z
      .array(z.object({ path: z.string(), configMap: z.string(), key: z.string(), bytes: z.int(), sha256: z.string() }))
      .nullable()
      .describe('The files from ConfigMaps, as they were when it started; null when there were none.'),
    createdAt: timestamp,
    startedAt: timestamp.nullable(),
    finishedAt: timestamp.nullable(),
    exitCode: z.int().nullable(),
    signal: z.string().nullable(),
    verdict: verdictSchema.nullable(),
    receipt: z.unknown().describe('What its sandbox was, as measured and as Kubernetes says; null until it ran. docs/receipt.md has the fields.'),
    capture: captureSchema.nullable().describe('null while nobody follows it, or when no pod ever ran.'),
  })
  .meta({ id: 'Attempt' });

export const evaluationSchema = z
  .object({
    uid,
    namespace: z.string(),
    namespaceUid: uid,
    name: z.string(),
    generation: z.int(),
    spec: z.record(z.string(), z.unknown()).describe('As it was submitted.'),
    labels,
    phase: z.string(),
    priority: z.int(),
    queueReason: z.string().nullable(),
    queueMessage: z.string().nullable(),
    verdict: verdictSchema.nullable(),
    passed: z.boolean().nullable(),
    passedReason: z.string().nullable(),
    passedMessage: z.string().nullable(),
    submittedBy: z.string().nullable(),
    createdAt: timestamp,
    acceptedAt: timestamp,
    finishedAt: timestamp.nullable(),
    acceptedAttempt: z.int().nullable(),
    outputDeletedAt: timestamp.nullable(),
    artifactsDeletedAt: timestamp.nullable(),
    attempts: z.array(attemptSchema),
  })
  .meta({ id: 'Evaluation', description: 'The record of a run: it stays when the resource is gone.' });

export const runEventSchema = z
  .object({
    seq: z.int().describe('From 1, without gaps.'),
    type: z.string(),
    data: z.record(z.string(), z.unknown()),
    at: timestamp,
    position: z.int().nullable().describe('In the stream of all events; null until it is given.'),
  })
  .meta({ id: 'RunEvent' });

export const artifactSchema = z
  .object({
    attempt: z.int(),
    index: z.int(),
    path: z.string().describe('What the sandbox called it: text, never a path of ours.'),
    size: z.int(),
    sha256: z.string().nullable(),
    complete: z.boolean(),
    refused: z.string().nullable(),
    mode: z.int().nullable(),
    deletedAt: timestamp.nullable(),
  })
  .meta({ id: 'Artifact' });

export const statusSchema = z
  .object({
    id: uid,
    phase: z.string(),
    finished: z.boolean(),
    refused: z.boolean().describe('Not accepted, and not recorded: queueReason and queueMessage say what has to change, outside of it, before it can run.'),
    verdict: verdictSchema.nullable(),
    passed: z.boolean().nullable(),
    finishedAt: timestamp.nullable(),
    queueReason: z.string().nullable(),
    queueMessage: z.string().nullable(),
    queuePosition: z.int().nullable(),
  })
  .meta({ id: 'EvaluationStatus' });
