import createClient, { type Client } from 'openapi-fetch';
import type { components, paths } from './contract.ts';
import { ProblemError } from './errors.ts';
import { readEvents, type StreamEvent } from './event-stream.ts';
import { pause } from './patience.ts';
import { abortable } from './signals.ts';
import { Transport, type TransportOptions } from './transport.ts';

type Schemas = components['schemas'];
export type Submission = Schemas['EvaluationSubmissionInput'];
export type Accepted = Schemas['AcceptedEvaluation'];
export type Evaluation = Schemas['Evaluation'];
export type EvaluationSummary = Schemas['EvaluationSummary'];
export type EvaluationStatus = Schemas['EvaluationStatus'];
export type CompleteEvaluation = Schemas['CompleteEvaluation'];
export type Attempt = Schemas['Attempt'];
export type Verdict = Schemas['Verdict'];
export type Artifact = Schemas['Artifact'];
export type Plan = Schemas['Plan'];
export type Queue = Schemas['Queue'];
export type ListQuery = NonNullable<paths['/api/evaluations']['get']['parameters']['query']>;
export type OutputStream = 'stdout' | 'stderr';

/** A CloudEvent of the API’s event streams. */
export interface RunEvent {
  readonly id: string;
  /** dev.crucible.evaluation.phase and so on. */
  readonly type: string;
  /** UID of the evaluation. */
  readonly subject: string;
  readonly time: string;
  /** In the order of all events; what to go on after. */
  readonly position: string;
  readonly sequence: string;
  readonly namespace: string;
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** A piece of output, from `offset` on. */
export interface OutputPiece {
  readonly offset: number;
  readonly attempt: number;
  readonly data: Uint8Array;
}

export interface Call {
  readonly signal?: AbortSignal | undefined;
}

export interface Follow extends Call {
  readonly onReconnect?: (() => void) | undefined;
}

/** What is long comes as it is read. */
export interface Download {
  readonly body: ReadableStream<Uint8Array>;
  readonly headers: Headers;
}

const NAME_ALPHABET = 'bcdfghjklmnpqrstvwxz2456789';
const NAME_CHARACTERS = 10;

/**
 * The API, with types from its contract. Waits while it starts or restarts, and says what for (`onWait`); honours
 * Retry-After. Everything that is not a success is thrown: ProblemError, UnreachableError, or the reason of the signal.
 */
export class StartupAwareClient {
  readonly #transport: Transport;
  /** Every operation of the contract. Submissions without a name are not repeated: `submit` is for those. */
  readonly api: Client<paths>;

  constructor(options: TransportOptions) {
    this.#transport = new Transport(options);
    const { send, baseUrl } = this.#transport;
    this.api = createClient<paths>({
      baseUrl,
      fetch: (request) => send(request, { repeatable: !isSubmission(request) }),
    });
  }

  get origin(): string {
    return this.#transport.origin;
  }

  /**
   * Submits once, however often it has to be tried: the evaluation gets its name here, and so a second try cannot make a
   * second one.
   */
  async submit(submission: Submission, { signal }: Call = {}): Promise<Accepted> {
    const { name, generateName, ...metadata } = submission.metadata;
    const body = { ...submission, metadata: { ...metadata, name: name ?? uniqueName(generateName ?? 'eval-') } };
    try {
      return must(await this.api.POST('/api/evaluations', { body, ...this.#with(signal) }));
    } catch (error) {
      // A name that was made up here exists only because an earlier try succeeded and its answer was lost.
      if (name !== undefined || !(error instanceof ProblemError) || error.status !== 409) throw error;
      return await this.#adopt(body.metadata, signal);
    }
  }

  async #adopt(
    { namespace, name }: { namespace: string; name: string },
    signal: AbortSignal | undefined,
  ): Promise<Accepted> {
    for (const end = Date.now() + ADOPT_SECONDS * 1000; ; ) {
      const { items } = await this.list({ namespace, name }, { signal });
      const found = items.find((item) => item.name === name);
      if (found !== undefined) return { id: found.uid, namespace, name, statusUrl: `/api/eval-status/${found.uid}` };
      if (Date.now() > end)
        throw new Error(
          `${namespace}/${name} was submitted, but is not recorded yet: look at it in the cluster, and do not submit it again`,
        );
      await pause(1, signal);
    }
  }

  async plan(submission: Submission, { signal }: Call = {}): Promise<Plan> {
    return must(await this.api.POST('/api/plans', { body: submission, ...this.#with(signal) }));
  }

  async list(
    query: ListQuery,
    { signal }: Call = {},
  ): Promise<{ items: EvaluationSummary[]; nextCursor?: string | undefined }> {
    return must(await this.api.GET('/api/evaluations', { params: { query }, ...this.#with(signal) }));
  }

  /** 404 until the operator has recorded it; `status` knows it before. */
  async evaluation(id: string, { signal }: Call = {}): Promise<Evaluation> {
    return must(await this.api.GET('/api/evaluations/{id}', { params: { path: { id } }, ...this.#with(signal) }));
  }

  async complete(id: string, { signal }: Call = {}): Promise<CompleteEvaluation> {
    return must(
      await this.api.GET('/api/evaluations/{id}/complete', { params: { path: { id } }, ...this.#with(signal) }),
    );
  }

  async status(id: string, { signal }: Call = {}): Promise<EvaluationStatus> {
    return must(await this.api.GET('/api/eval-status/{id}', { params: { path: { id } }, ...this.#with(signal) }));
  }

  /** What waits, also what is submitted and not recorded yet, or refused. */
  async queue(query: { namespace?: string }, { signal }: Call = {}): Promise<Queue> {
    return must(await this.api.GET('/api/queue', { params: { query }, ...this.#with(signal) }));
  }

  async cancel(id: string, { signal }: Call = {}): Promise<Accepted> {
    return must(
      await this.api.POST('/api/evaluations/{id}/cancel', { params: { path: { id } }, ...this.#with(signal) }),
    );
  }

  async artifacts(id: string, { signal, attempt }: Call & { attempt?: number | undefined } = {}): Promise<Artifact[]> {
    const query = attempt === undefined ? {} : { attempt };
    return must(
      await this.api.GET('/api/evaluations/{id}/artifacts', { params: { path: { id }, query }, ...this.#with(signal) }),
    ).items;
  }

  async artifact(
    id: string,
    { path, attempt }: { path: string; attempt: number },
    { signal }: Call = {},
  ): Promise<Download> {
    // Addresses cannot hold these: whoever reads one takes them for a way up.
    if (path === '.' || path === '..')
      throw new Error(`an artifact called ${path} has no address of its own: it is in the bundle`);
    const params = { path: { id, path }, query: { attempt } };
    return download(
      await this.api.GET('/api/evaluations/{id}/artifacts/{path}', {
        params,
        parseAs: 'stream',
        ...this.#with(signal),
      }),
      signal,
    );
  }

  async output(
    id: string,
    stream: OutputStream,
    { signal, attempt }: Call & { attempt?: number | undefined } = {},
  ): Promise<Download> {
    const params = { path: { id, stream }, query: attempt === undefined ? {} : { attempt } };
    return download(
      await this.api.GET('/api/evaluations/{id}/output/{stream}', { params, parseAs: 'stream', ...this.#with(signal) }),
      signal,
    );
  }

  async bundle(id: string, { signal }: Call = {}): Promise<Download> {
    return download(
      await this.api.GET('/api/evaluations/{id}/bundle', {
        params: { path: { id } },
        parseAs: 'stream',
        ...this.#with(signal),
      }),
      signal,
    );
  }

  /** Every event of one evaluation from its beginning, or after a position, without end: each once, also across a restart. */
  async *events(
    id: string,
    { after, ...follow }: Follow & { after?: string | undefined } = {},
  ): AsyncGenerator<RunEvent, void, undefined> {
    for await (const { data } of this.#follow(`/api/evaluations/${encodeURIComponent(id)}/events`, after, follow))
      yield JSON.parse(data) as RunEvent;
  }

  /** The same of everything that the caller may list, from now on or after a position. */
  async *allEvents({
    after,
    namespace,
    ...follow
  }: Follow & { after?: string | undefined; namespace?: string | undefined } = {}): AsyncGenerator<
    RunEvent,
    void,
    undefined
  > {
    const query = namespace === undefined ? '' : `?namespace=${encodeURIComponent(namespace)}`;
    for await (const { data } of this.#follow(`/api/events${query}`, after, follow)) yield JSON.parse(data) as RunEvent;
  }

  /** Output of one attempt as it grows, from an offset on, until it is captured. */
  async *followOutput(
    id: string,
    stream: OutputStream,
    { attempt, offset = 0, ...follow }: Follow & { attempt: number; offset?: number | undefined },
  ): AsyncGenerator<OutputPiece, void, undefined> {
    const path = `/api/evaluations/${encodeURIComponent(id)}/output/${stream}/stream?attempt=${attempt}`;
    for await (const { event, data } of this.#follow(path, String(offset), follow)) {
      if (event === 'end') return;
      if (event !== 'output') continue;
      const piece = JSON.parse(data) as { offset: number; attempt: number; data: string };
      yield { offset: piece.offset, attempt: piece.attempt, data: bytesOf(piece.data) };
    }
  }

  /** Not as the request's own signal: see signals.ts. */
  #with(signal: AbortSignal | undefined): { fetch: (request: Request) => Promise<Response> } {
    return { fetch: (request) => this.#transport.send(request, { signal }) };
  }

  #follow(
    path: string,
    lastEventId: string | undefined,
    { signal, onReconnect }: Follow,
  ): AsyncGenerator<StreamEvent, void, undefined> {
    return readEvents(this.#transport, { path, lastEventId, signal, onReconnect });
  }
}

const ADOPT_SECONDS = 60;

const isSubmission = ({ method, url }: Request): boolean =>
  method === 'POST' && new URL(url).pathname.endsWith('/api/evaluations');

/** The transport throws whatever is not a success, so there is data, or a success that has none. */
function must<T>({ data, response }: { data?: T; response: Response }): T {
  if (data === undefined) throw new Error(`${response.url} answered ${response.status} and nothing else`);
  return data;
}

function download(
  { data, response }: { data?: ReadableStream<Uint8Array> | null; response: Response },
  signal: AbortSignal | undefined,
): Download {
  return { body: abortable(data ?? new Blob([]).stream(), signal), headers: response.headers };
}

function bytesOf(base64: string): Uint8Array {
  const text = atob(base64);
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

/** As generateName makes them, with more to choose from: 27^10. */
function uniqueName(prefix: string): string {
  const random = crypto.getRandomValues(new Uint8Array(NAME_CHARACTERS));
  return prefix + Array.from(random, (byte) => NAME_ALPHABET[byte % NAME_ALPHABET.length]).join('');
}
