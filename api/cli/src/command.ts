import type { StartupAwareClient } from '@crucible/client';
import type { Printer } from './printer.ts';
import { safeJson } from './text.ts';
import type { GlobalOptions, Session } from './session.ts';

/** What every command is given. */
export interface Tools {
  readonly session: Session;
  readonly options: GlobalOptions;
  readonly stdout: Printer;
  readonly stderr: Printer;
  /** Aborted by Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal;
  readonly now: () => number;
}

/** A command resolves with the exit code. */
export type Command<Options> = (tools: Tools, args: readonly string[], options: Options) => Promise<number>;

export interface OutputOption {
  readonly output?: string;
}

export function printJson(stdout: Printer, value: unknown): void {
  // Not line(): what is JSON is safe already, and must not be changed.
  void stdout.bytes(Buffer.from(`${safeJson(value)}\n`));
}

export async function connect({ session }: Tools): Promise<{ client: StartupAwareClient; namespace: string }> {
  const namespace = await session.namespace();
  return { client: await session.client(), namespace };
}

export const shellWord = (word: string): string =>
  /^[A-Za-z0-9_./:=@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
