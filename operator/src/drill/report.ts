import * as z from 'zod';
import type { Check } from './attack.ts';

// What a canary printed. The canary is our own program, in a sandbox that the drill does not trust yet: its report is
// read as hostile text. Who could forge it would already be past the rule that it reports on, so the worst a forgery can
// do is to hide that; what could be seen from outside (pod, verdict, control) is never taken from here.

const MAX_REPORT = 256 * 1024;
const MAX_LINES = 200;

const line = z.object({
  attack: z.string().max(64),
  checks: z
    .array(z.object({ check: z.string().max(128), blocked: z.boolean().nullable(), detail: z.string().max(256) }))
    .max(64),
});

/** Checks by attack (`reach:<group>` for addresses). What is no report is left out. */
export function parseReport(text: string): Map<string, Check[]> {
  const checks = new Map<string, Check[]>();
  for (const candidate of text.slice(0, MAX_REPORT).split('\n', MAX_LINES)) {
    const parsed = line.safeParse(json(candidate));
    if (parsed.success)
      checks.set(parsed.data.attack, [...(checks.get(parsed.data.attack) ?? []), ...parsed.data.checks]);
  }
  return checks;
}

/** The checks of one attack that ran alone. */
export function reported(stdout: string, attack: string): Check[] {
  return parseReport(stdout).get(attack) ?? [];
}

function json(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
