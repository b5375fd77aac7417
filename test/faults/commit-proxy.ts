import type { Socket } from 'node:net';
import { TcpProxy } from './tcp-proxy.ts';

// Postgres' protocol, version 3: after the start-up message every message is one letter, a length and a body.

/** A transaction that wrote something is about to commit. */
export interface CommitPoint {
  /** From 1, over all connections. */
  readonly number: number;
  /** The statements of the transaction, for a report. */
  readonly statements: readonly string[];
}

/**
 * `before`: the commit is never sent. `after`: it is done and the answer is never seen. Then the connection is cut
 * (`act` runs first: kill whoever waits for the answer). `late`: it is sent after `act`, and nothing is cut.
 */
export interface CommitFault {
  readonly when: 'before' | 'after' | 'late';
  readonly act?: () => Promise<void> | void;
}

export type CommitRule = (point: CommitPoint) => CommitFault | undefined;

const WRITES =
  /\b(insert\s+into|update\s+crucible|delete\s+from|pg_notify|append_\w*event|(observe|end)_namespace|(withdraw|explain)_submission)\b/i;
/** The relay gives events their positions. It asks for that again and again, mostly when there is nothing to do. */
const NUMBERS = /\bcrucible\.assign_positions\b/i;
const START_UP = 0;
const SSL_REQUEST = 80_877_103;
const CANCEL_REQUEST = 80_877_102;

/** Postgres behind a proxy that knows when something is committed. */
export class CommitProxy {
  rule: CommitRule = () => undefined;
  /** The same for what numbers events, which is counted by itself. */
  numberingRule: CommitRule = () => undefined;
  readonly #tcp: TcpProxy;
  readonly #points: CommitPoint[] = [];
  readonly #numberings: CommitPoint[] = [];
  readonly #refusals = new Map<string, number>();

  constructor(target: { readonly host: string; readonly port: number }) {
    this.#tcp = new TcpProxy(target, (near, far) => this.#join(near, far));
  }

  /** Everything that was committed or about to be, in order. */
  get points(): readonly CommitPoint[] {
    return this.#points;
  }

  /** How often events were numbered, or nearly. */
  get numberings(): number {
    return this.#numberings.length;
  }

  /** Connections that were lost without the client's doing. */
  get lost(): number {
    return this.#tcp.lost;
  }

  /** How often the server answered with this SQLSTATE. */
  refusals(code: string): number {
    return this.#refusals.get(code) ?? 0;
  }

  through = (url: string): string => this.#tcp.through(url);
  up = (): Promise<void> => this.#tcp.up();
  down = (): Promise<void> => this.#tcp.down();
  cut = (): void => this.#tcp.cut();

  #join(near: Socket, far: Socket): void {
    const transaction = new TransactionTracker();
    const answers = new Messages(false);
    const requests = new Messages(true);
    /** Set while the answer to a commit is held back. */
    let withheld: (() => void) | undefined;
    let queue = Promise.resolve();
    far.on('data', (data: Buffer) => {
      const messages = answers.split(data);
      for (const message of messages) this.#note(message);
      if (withheld === undefined) near.write(data);
      else if (messages.some((message) => message.type === 'Z')) withheld();
    });
    const forward = async (message: Message): Promise<void> => {
      const statements = transaction.see(message);
      if (statements === undefined) {
        far.write(message.bytes);
        return;
      }
      const numbers = !statements.some((text) => WRITES.test(text));
      const points = numbers ? this.#numberings : this.#points;
      const point = { number: points.length + 1, statements };
      points.push(point);
      const fault = numbers ? this.numberingRule(point) : this.rule(point);
      if (fault === undefined) {
        far.write(message.bytes);
        return;
      }
      if (fault.when === 'late') {
        await fault.act?.();
        far.write(message.bytes);
        return;
      }
      if (fault.when === 'after') {
        const done = new Promise<void>((resolve) => {
          withheld = resolve;
          far.once('close', () => resolve());
        });
        far.write(message.bytes);
        await done;
      }
      await fault.act?.();
      near.destroy();
      far.destroy();
    };
    near.on('data', (data: Buffer) => {
      for (const message of requests.split(data)) {
        if (message.type === 'ssl') near.write('N');
        else queue = queue.then(() => (near.destroyed ? undefined : forward(message)));
      }
    });
  }

  /** An ErrorResponse has fields of a letter and a text, each ended by NUL; C is the SQLSTATE. */
  #note({ type, bytes }: Message): void {
    const code = type === 'E' ? /\0C([0-9A-Z]{5})\0/.exec(bytes.toString('latin1'))?.[1] : undefined;
    if (code !== undefined) this.#refusals.set(code, this.refusals(code) + 1);
  }
}

interface Message {
  readonly type: string;
  readonly bytes: Buffer;
}

/** Cuts a byte stream into messages. */
class Messages {
  #rest: Buffer = Buffer.alloc(0);
  #starting: boolean;

  constructor(fromClient: boolean) {
    this.#starting = fromClient;
  }

  split(data: Buffer): Message[] {
    this.#rest = this.#rest.length === 0 ? data : Buffer.concat([this.#rest, data]);
    const messages: Message[] = [];
    for (;;) {
      const head = this.#starting ? 0 : 1;
      if (this.#rest.length < head + 4) return messages;
      const length = head + this.#rest.readInt32BE(head);
      if (this.#rest.length < length) return messages;
      const bytes = this.#rest.subarray(0, length);
      this.#rest = this.#rest.subarray(length);
      messages.push({ type: this.#starting ? this.#startUp(bytes) : String.fromCharCode(bytes[0]!), bytes });
    }
  }

  #startUp(bytes: Buffer): string {
    const code = bytes.length >= 8 ? bytes.readInt32BE(4) : START_UP;
    if (code === SSL_REQUEST) return 'ssl';
    if (code !== CANCEL_REQUEST) this.#starting = false;
    return 'start';
  }
}

/** Follows one connection's statements; says when a message makes something permanent. */
class TransactionTracker {
  #open = false;
  #statements: string[] = [];
  /** Of what was parsed, by name; the last one without a name has none. */
  readonly #texts = new Map<string, string>();

  /** The statements of the transaction that this message commits, if it wrote anything. */
  see({ type, bytes }: Message): readonly string[] | undefined {
    if (type === 'Q') {
      const text = bytes.toString('utf8', 5, bytes.length - 1);
      if (/^\s*begin\b/i.test(text)) this.#begin(true);
      else if (/^\s*rollback\b/i.test(text)) this.#begin(false);
      else if (/^\s*commit\b/i.test(text)) return this.#end();
      else {
        this.#statements.push(text);
        if (!this.#open) return this.#end();
      }
    }
    // Parse: the name of the statement, then its text, both ended by NUL. A prepared one is sent only once.
    if (type === 'P') {
      const text = bytes.indexOf(0, 5) + 1;
      this.#texts.set(bytes.toString('utf8', 5, text - 1), bytes.toString('utf8', text, bytes.indexOf(0, text)));
    }
    // Bind, which is once for each execution: the name of the portal, then that of the statement.
    if (type === 'B') {
      const name = bytes.indexOf(0, 5) + 1;
      this.#statements.push(this.#texts.get(bytes.toString('utf8', name, bytes.indexOf(0, name))) ?? '');
    }
    // Sync ends what is not in a transaction block.
    if (type === 'S' && !this.#open) return this.#end();
    return undefined;
  }

  #begin(open: boolean): void {
    this.#open = open;
    this.#statements = [];
  }

  #end(): readonly string[] | undefined {
    const statements = this.#statements.filter((text) => WRITES.test(text) || NUMBERS.test(text)).map((text) => text.replace(/\s+/g, ' ').trim());
    this.#begin(false);
    return statements.length > 0 ? statements : undefined;
  }
}
