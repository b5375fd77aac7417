import type { Socket } from 'node:net';
import { TcpProxy } from './tcp-proxy.ts';

/** A command that publishes: events into the stream, or word of new output. */
export interface PublishPoint {
  /** From 1, over all connections. */
  readonly number: number;
  readonly kind: 'events' | 'output';
}

/**
 * `before`: the command is never sent. `after`: it is done and the answer is never seen. Then the connection is cut
 * (`act` runs first: kill whoever waits for the answer).
 */
export interface PublishFault {
  readonly when: 'before' | 'after';
  readonly act?: () => Promise<void> | void;
}

export type PublishRule = (point: PublishPoint) => PublishFault | undefined;

/** A server that is dead answers nothing. */
const ANSWER_MS = 2_000;

/** Redis behind a proxy that knows when something is published, and that can be slow. */
export class RedisProxy {
  rule: PublishRule = () => undefined;
  /** Everything arrives so much later, each way. */
  delayMs = 0;
  readonly #tcp: TcpProxy;
  readonly #points: PublishPoint[] = [];

  constructor(target: { readonly host: string; readonly port: number }) {
    this.#tcp = new TcpProxy(target, (near, far) => this.#join(near, far));
  }

  get points(): readonly PublishPoint[] {
    return this.#points;
  }

  /** Connections that were lost without the client's doing. */
  get lost(): number {
    return this.#tcp.lost;
  }

  through = (url: string): string => this.#tcp.through(url);
  up = (): Promise<void> => this.#tcp.up();
  down = (): Promise<void> => this.#tcp.down();

  #join(near: Socket, far: Socket): void {
    const commands = new Commands();
    /** Set while answers are held back. */
    let answered: (() => void) | undefined;
    let requests = Promise.resolve();
    let answers = Promise.resolve();
    far.on('data', (data: Buffer) => {
      if (answered !== undefined) return answered();
      answers = answers.then(() => this.#late()).then(() => void near.write(data));
    });
    const forward = async (command: Buffer): Promise<void> => {
      await this.#late();
      const kind = publishes(command);
      const point = kind && { number: this.#points.length + 1, kind };
      if (point !== undefined) this.#points.push(point);
      const fault = point && this.rule(point);
      if (fault === undefined) return void far.write(command);
      if (fault.when === 'after') {
        await new Promise<void>((resolve) => {
          answered = resolve;
          far.once('close', () => resolve());
          setTimeout(resolve, ANSWER_MS).unref();
          far.write(command);
        });
      }
      await fault.act?.();
      near.destroy();
      // Not destroyed: what the server was sent before is done before it sees the end.
      far.end();
    };
    near.on('data', (data: Buffer) => {
      for (const command of commands.split(data)) requests = requests.then(() => (near.destroyed ? undefined : forward(command)));
    });
  }

  async #late(): Promise<void> {
    if (this.delayMs > 0) await new Promise((resolve) => setTimeout(resolve, this.delayMs));
  }
}

function publishes(command: Buffer): PublishPoint['kind'] | undefined {
  const text = command.toString('latin1', 0, 2_000);
  if (/^\*3\r\n\$7\r\npublish\r\n/i.test(text)) return 'output';
  return /^\*\d+\r\n\$4\r\neval\r\n/i.test(text) && text.includes("'XADD'") ? 'events' : undefined;
}

/** Cuts what a client sends into commands: arrays of bulk strings. */
class Commands {
  #rest: Buffer = Buffer.alloc(0);

  split(data: Buffer): Buffer[] {
    this.#rest = this.#rest.length === 0 ? data : Buffer.concat([this.#rest, data]);
    const commands: Buffer[] = [];
    for (;;) {
      const end = endOfCommand(this.#rest);
      if (end === undefined) return commands;
      commands.push(this.#rest.subarray(0, end));
      this.#rest = this.#rest.subarray(end);
    }
  }
}

function endOfCommand(bytes: Buffer): number | undefined {
  const header = numberLine(bytes, 0);
  if (header === undefined) return undefined;
  let at = header.end;
  for (let left = header.number; left > 0; left -= 1) {
    const length = numberLine(bytes, at);
    if (length === undefined) return undefined;
    at = length.end + length.number + 2;
  }
  return at <= bytes.length ? at : undefined;
}

/** `*3` or `$7` and a line's end: the number, and where the line ends. */
function numberLine(bytes: Buffer, from: number): { number: number; end: number } | undefined {
  const end = bytes.indexOf('\r\n', from);
  return end === -1 ? undefined : { number: Number(bytes.toString('latin1', from + 1, end)), end: end + 2 };
}
