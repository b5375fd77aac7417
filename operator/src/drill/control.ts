import { z } from 'zod';
import type { Target } from './canary.ts';

/** It tries everything at once, for three seconds. */
const TIMEOUT_MS = 10_000;
const MAX_TARGETS = 64;
const MAX_ANSWER_BYTES = 64 * 1024;

const answer = z.object({
  targets: z
    .array(
      z.object({
        name: z.string().min(1).max(128),
        group: z.enum(['egress', 'apiServer', 'node', 'dns']),
        protocol: z.enum(['tcp', 'udp', 'dns']),
        address: z.union([z.ipv4(), z.ipv6()]),
        port: z.int().min(1).max(65_535),
        reply: z.string().max(200).optional(),
      }),
    )
    .max(MAX_TARGETS),
});

/** What the control pod reached just now; a group that is missing from it has no control. */
export type Controls = { readonly targets: readonly Target[] } | { readonly problem: string };
export type AskControl = (signal: AbortSignal) => Promise<Controls>;

export function controlAt(url: string | undefined): AskControl {
  return async (signal) => {
    if (url === undefined) return { problem: 'there is no control pod (drill.controlNamespace)' };
    try {
      const response = await fetch(`${url}/reached`, {
        signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
      });
      const text = await response.text();
      if (!response.ok || text.length > MAX_ANSWER_BYTES)
        return { problem: `the control pod answered ${response.status}` };
      const { targets } = answer.parse(JSON.parse(text));
      return {
        targets: targets.flatMap(({ reply, ...target }) => (reply === undefined || reply === '' ? [] : [target])),
      };
    } catch (error) {
      return { problem: `the control pod cannot be asked: ${error instanceof Error ? error.message : String(error)}` };
    }
  };
}
