import * as z from 'zod';
import type { Check } from './attack.ts';
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
/** What the control gets from a sandbox that listens at this address. */
export type AskPeer = (address: string, signal: AbortSignal) => Promise<Pick<Check, 'blocked' | 'detail'>>;

export function controlAt(url: string | undefined): AskControl {
  return async (signal) => {
    if (url === undefined) return { problem: 'there is no control pod (drill.controlNamespace)' };
    try {
      const { targets } = answer.parse(await ask(`${url}/reached`, signal));
      return {
        targets: targets.flatMap(({ reply, ...target }) => (reply === undefined || reply === '' ? [] : [target])),
      };
    } catch (error) {
      return { problem: `the control pod cannot be asked: ${error instanceof Error ? error.message : String(error)}` };
    }
  };
}

const peerAnswer = z.object({ peer: z.enum(['answered', 'connected', 'silent']) });

export function peerThrough(url: string | undefined): AskPeer {
  return async (address, signal) => {
    try {
      const { peer } = peerAnswer.parse(await ask(`${url}/peer/${address}`, signal));
      if (peer === 'connected') return { blocked: null, detail: `${address} let the control connect, and said nothing` };
      const detail = peer === 'answered' ? `${address} answered the control` : `${address} did not answer the control`;
      return { blocked: peer === 'silent', detail };
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      return { blocked: null, detail: `the control pod cannot be asked: ${message}` };
    }
  };
}

async function ask(url: string, signal: AbortSignal): Promise<unknown> {
  const response = await fetch(url, { signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]) });
  const text = await response.text();
  if (!response.ok || text.length > MAX_ANSWER_BYTES) throw new Error(`it answered ${response.status}`);
  return JSON.parse(text) as unknown;
}
