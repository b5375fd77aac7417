import * as z from 'zod';
import { timestamp } from './common.ts';

export const artifactLocationSchema = z
  .object({
    backend: z.enum(['database', 'file', 'redis']),
    holds: z.string().describe('What of the run is there.'),
    location: z.string().describe('The table, the sha256 of the content, or the key.'),
    attempt: z.int().nullable(),
    items: z.int(),
    bytes: z.int(),
    path: z.string().nullable().describe('What the sandbox called an artifact.'),
  })
  .meta({ id: 'StorageLocation', description: 'Where a part of the run is: everything that is named was there when it was looked for.' });

const kubernetesEventSchema = z
  .object({
    objectKind: z.string().describe('Job or Pod.'),
    objectName: z.string(),
    type: z.string().describe('Normal or Warning.'),
    reason: z.string(),
    message: z.string(),
    component: z.string().describe('Who says that it told: kubelet, default-scheduler, job-controller, …'),
    count: z.int(),
    firstSeenAt: timestamp,
    lastSeenAt: timestamp,
  })
  .meta({ id: 'KubernetesEvent', description: 'What Kubernetes told, in its own words. Untrusted: whoever may create events in the namespace can have written them.' });

export const timelineSchema = z
  .object({
    at: timestamp,
    type: z.string().describe('Of an event, or what a time in the record stands for; kubernetes.event for what Kubernetes told.'),
    source: z.enum(['cluster', 'kubelet', 'record']).describe('Whose clock.'),
    attempt: z.int().nullable(),
    message: z.string(),
    seq: z.int().nullable(),
    kubernetesEvent: kubernetesEventSchema.nullable().describe('Null for what is Crucible’s own.'),
    afterSeconds: z.int(),
  })
  .meta({ id: 'TimelineEntry' });
