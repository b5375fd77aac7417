// Three kinds that callers tell apart: wait and try again (UnavailableError), someone else was faster or the state
// forbids it (ConflictError and its kinds), and a bug or a wrong deployment (anything else).

export class StorageError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** Postgres or the file store cannot serve at present. The operation may be repeated: all of them are idempotent. */
export class UnavailableError extends StorageError {
  /** True when the connection was lost while committing: the change may or may not have happened. */
  readonly commitUnknown: boolean;

  constructor(message: string, options?: ErrorOptions & { commitUnknown?: boolean }) {
    super(message, options);
    this.commitUnknown = options?.commitUnknown ?? false;
  }
}

/** The stored state forbids the change. Repeating it will not help; read again. */
export class ConflictError extends StorageError {}

/** A newer leader has written this row: stop acting as the leader. */
export class FencedError extends ConflictError {}

/** The row that the change refers to does not exist (yet). */
export class NotFoundError extends StorageError {}

/** Stored bytes are not what their ledger or their name says. */
export class IntegrityError extends StorageError {}

/** Artifacts whose content is not in the file store: put it again, then repeat. */
export class MissingContentError extends StorageError {
  readonly sha256s: readonly string[];

  constructor(sha256s: readonly string[]) {
    super(`the file store does not have the content of ${sha256s.length} artifacts`);
    this.sha256s = sha256s;
  }
}

/** More than a configured limit. */
export class LimitError extends StorageError {}

/** A refused statement: a bug in a query, missing grants, a schema that does not fit. Carries the SQLSTATE. */
export class QueryError extends StorageError {
  readonly code: string | undefined;

  constructor(message: string, code: string | undefined, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** A migration cannot or must not be applied; the message says what to do. */
export class MigrationError extends StorageError {}

export function isUnavailable(error: unknown): error is UnavailableError {
  return error instanceof UnavailableError;
}

export function isConflict(error: unknown): error is ConflictError {
  return error instanceof ConflictError;
}

export function isForeignPod(error: unknown): boolean {
  return error instanceof ConflictError && (error.cause as { code?: string } | undefined)?.code === FOREIGN_POD;
}

const NETWORK_CODES = new Set([
  'ECONNREFUSED', 'ECONNRESET', 'ECONNABORTED', 'EPIPE', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH', 'ENETDOWN',
  'ENOTFOUND', 'EAI_AGAIN', 'ENOENT',
]);

// Only errors that the driver itself makes carry no code; these are the ones about the connection.
const DRIVER_MESSAGES =
  /Connection terminated|timeout exceeded when trying to connect|Query read timeout|Client has encountered a connection error|not queryable|Client was closed|stream has been aborted|does not support SSL/i;

/** Raised by our triggers (0001_init.sql): the row is final; the attempt belongs to another pod. */
const FINAL_STATE = 'CRU01';
const FOREIGN_POD = 'CRU02';

function isUnavailableState(code: string): boolean {
  return (
    code.startsWith('08') || // connection exceptions
    code.startsWith('53') || // too many connections, disk full, out of memory
    code.startsWith('57P') || // shutting down, crashed, cannot connect now, database dropped
    code.startsWith('58') || // I/O error of the server
    code === '57014' || // statement timeout
    code === '55P03' || // lock timeout
    code === '40001' || code === '40P01' || // serialisation failure, deadlock: repeated first by transaction()
    code === '25006' || // read-only: a failover is under way
    code === '25P03' || // idle in transaction for too long: our process was paused
    code === '26000' || // a prepared statement that the connection does not have: a pooler handed us another one
    code.startsWith('28') || // the role or its password is not there yet: `migrate` creates both
    code === '3D000' // nor is the database
  );
}

/** Turns what the driver throws into one of the kinds above. Row values (`detail`) are left behind. */
export function toStorageError(error: unknown): StorageError {
  if (error instanceof StorageError) return error;
  if (error instanceof AggregateError && error.errors.length > 0) return toStorageError(error.errors[0]);
  const code = (error as { code?: unknown }).code;
  const message = error instanceof Error ? error.message : String(error);
  if (typeof code !== 'string') {
    if (DRIVER_MESSAGES.test(message)) return new UnavailableError(`Postgres is not available: ${message}`);
    return new QueryError(message, undefined, { cause: error });
  }
  // A migration changed what a prepared statement returns: another connection knows better.
  const outdated = code === '0A000' && message.includes('cached plan');
  if (NETWORK_CODES.has(code) || isUnavailableState(code) || outdated) {
    return new UnavailableError(`Postgres is not available: ${message}`, { cause: scrubbed(error, code) });
  }
  if ([FINAL_STATE, FOREIGN_POD, '23505'].includes(code)) return new ConflictError(message, { cause: scrubbed(error, code) });
  if (code === '23503') return new NotFoundError(message, { cause: scrubbed(error, code) });
  return new QueryError(`${message} (SQLSTATE ${code})`, code, { cause: scrubbed(error, code) });
}

function scrubbed(error: unknown, code: string): object {
  const { constraint, table, routine } = error as { constraint?: string; table?: string; routine?: string };
  return { code, constraint, table, routine };
}
