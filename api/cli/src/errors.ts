import { ProblemError, UnreachableError } from '@crucible/client';
import { EXIT } from './exit-codes.ts';

/** One sentence: what is wrong and what to do. */
export class CliError extends Error {
  override readonly name = 'CliError';
  readonly exitCode: number;

  constructor(message: string, exitCode: number = EXIT.failed) {
    super(message);
    this.exitCode = exitCode;
  }
}

export const usageError = (message: string): CliError => new CliError(message, EXIT.usage);

/** One that -n did not name. */
export interface AssumedNamespace {
  readonly name: string;
  /** A sentence. */
  readonly source: string;
}

export interface Sources {
  readonly token: string;
  readonly namespace?: AssumedNamespace | undefined;
}

/** What Crucible or the cluster finds wrong with what was typed is wrong usage, as what the plugin finds itself. */
export function exitCodeOfError(error: unknown): number {
  if (error instanceof CliError) return error.exitCode;
  return error instanceof ProblemError && [400, 422].includes(error.status) ? EXIT.usage : EXIT.failed;
}

/** What a person is told of an error, whatever it is. */
export function sentenceOf(error: unknown, sources: Sources): string {
  if (error instanceof ProblemError) return problemSentence(error, sources);
  if (error instanceof UnreachableError) return `${error.message}; ${remedyOf(error.code)}`;
  return error instanceof Error ? error.message : String(error);
}

function problemSentence({ status, message, problem, requestId }: ProblemError, { token, namespace }: Sources): string {
  // The sentence has the first of them already.
  const others = (problem.errors ?? []).filter(({ message: why }) => !message.includes(why));
  const fields = others.map(({ field, message: why }) => `\n  ${field}: ${why}`).join('');
  switch (status) {
    case 401:
      return `not signed in: ${message} (the token came from ${token})`;
    case 403:
      return [
        `not allowed: ${message}`,
        ...(message.includes('crucible-researcher')
          ? []
          : ['the ClusterRole crucible-researcher in that namespace has what is needed']),
        ...(namespace !== undefined && message.includes(`"${namespace.name}"`) ? [namespace.source] : []),
      ].join('; ');
    case 503:
      return `Crucible is not ready, and did not become so in time: ${message}`;
    case 500:
      return `${message} (${requestId ?? 'no id'})`;
    default:
      return message + fields;
  }
}

function remedyOf(code: string | undefined): string {
  if (code === undefined) return 'is this the right address, and is Crucible running?';
  if (/CERT|SIGN|ISSUER|ERR_TLS|HOSTNAME/.test(code)) {
    return 'its certificate is not one that is trusted for this address: give the authority that signed it with --ca-file or CRUCIBLE_CA_FILE';
  }
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN')
    return 'its name cannot be looked up: check --server or CRUCIBLE_SERVER';
  if (code === 'EPROTO' || code.startsWith('ERR_SSL'))
    return 'it does not speak TLS: check --server or CRUCIBLE_SERVER';
  return 'is this the right address (--server, CRUCIBLE_SERVER), and is Crucible running?';
}
