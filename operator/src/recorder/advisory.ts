import * as z from 'zod';
import { parseJson } from './artifacts.ts';
import { safeJson, type Json } from './text.ts';

// The launcher's receipt and summary are advice: they come down the same stream as the program's output, so they
// inform the ledger (`truncated`) and the reader, and never a verdict.

const streamSummary = z.object({ truncated: z.boolean() });
const summaryFlags = z.object({ stdout: streamSummary, stderr: streamSummary });

const artifactSummary = z.object({ artifacts: z.object({ count: z.int().min(0) }) });

export type AdvisoryObject = { [key: string]: Json };

export interface Advisory {
  summary: AdvisoryObject | undefined;
  receipt: AdvisoryObject | undefined;
}

export function parseAdvisory(text: Buffer): AdvisoryObject | undefined {
  const json = safeJson(parseJson(text));
  return typeof json === 'object' && json !== null && !Array.isArray(json) ? json : undefined;
}

export function truncatedStreams(summary: AdvisoryObject | undefined): { stdout: boolean; stderr: boolean } {
  const flags = summaryFlags.safeParse(summary);
  if (!flags.success) return { stdout: false, stderr: false };
  return { stdout: flags.data.stdout.truncated, stderr: flags.data.stderr.truncated };
}

/** How many files the launcher says it sent; undefined when it says nothing. */
export function announcedArtifacts(summary: AdvisoryObject | undefined): number | undefined {
  const found = artifactSummary.safeParse(summary);
  return found.success ? found.data.artifacts.count : undefined;
}
