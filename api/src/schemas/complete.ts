import { z } from 'zod';
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

export const timelineSchema = z
  .object({
    at: timestamp,
    type: z.string(),
    source: z.enum(['cluster', 'kubelet', 'record']).describe('Whose clock.'),
    attempt: z.int().nullable(),
    message: z.string(),
    seq: z.int().nullable(),
    afterSeconds: z.int(),
  })
  .meta({ id: 'TimelineEntry' });
