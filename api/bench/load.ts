import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, type TLSSocket } from 'node:tls';

// A client that costs little: the machine's cores are shared with what is measured.

export interface Target {
  readonly port: number;
  readonly ca: Buffer;
  readonly token: string;
  readonly pid: number;
}

export interface Load {
  readonly perSecond: number;
  readonly milliseconds: readonly number[];
  /** The server's own, on its processor, for one request. */
  readonly cpuMilliseconds: number;
}

/** One connection, one request at a time. Answers have to say their length. */
class Client {
  readonly #socket: TLSSocket;
  readonly #token: string;
  #buffer: Buffer = Buffer.alloc(0);
  #left = -1;
  #done: ((status: number) => void) | undefined;
  #status = 0;

  private constructor(socket: TLSSocket, token: string) {
    this.#socket = socket;
    this.#token = token;
    socket.on('data', (data: Buffer) => this.#take(data));
  }

  static async open({ port, ca, token }: Target): Promise<Client> {
    const socket = connect({ host: '127.0.0.1', port, ca });
    await once(socket, 'secureConnect');
    return new Client(socket, token);
  }

  get(path: string): Promise<number> {
    return new Promise((resolve) => {
      this.#done = resolve;
      this.#socket.write(`GET ${path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer ${this.#token}\r\n\r\n`);
    });
  }

  close(): void {
    this.#socket.destroy();
  }

  #take(data: Buffer): void {
    if (this.#left < 0) {
      this.#buffer = this.#buffer.length === 0 ? data : Buffer.concat([this.#buffer, data]);
      const end = this.#buffer.indexOf('\r\n\r\n');
      if (end < 0) return;
      const head = this.#buffer.subarray(0, end).toString('latin1');
      this.#status = Number(head.slice(9, 12));
      this.#left = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0) - (this.#buffer.length - end - 4);
      this.#buffer = Buffer.alloc(0);
    } else this.#left -= data.length;
    if (this.#left > 0) return;
    this.#left = -1;
    this.#done?.(this.#status);
  }
}

const TICKS = 100;
export function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

export interface Memory {
  /** MiB: what nothing but the process's end or its own doing gives back. */
  readonly anonymous: number;
  readonly resident: number;
}

export function memoryOf(pid: number): Memory {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const mib = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) / 1024;
  return { anonymous: mib('RssAnon'), resident: mib('VmRSS') };
}

/** As many requests as `connections` get answered, one after the other, for so long, and no more than `most`. Throws when one is not a success. */
export async function load(target: Target, path: (n: number) => string, connections: number, seconds: number, most = Infinity): Promise<Load> {
  const clients = await Promise.all(Array.from({ length: connections }, () => Client.open(target)));
  const milliseconds: number[] = [];
  const [begun, cpu] = [performance.now(), cpuSeconds(target.pid)];
  let n = 0;
  await Promise.all(clients.map(async (client) => {
    while (performance.now() - begun < seconds * 1000 && n < most) {
      const [at, where] = [performance.now(), path(n++)];
      const status = await client.get(where);
      if (status < 200 || status > 299) throw new Error(`${where}: ${status}`);
      milliseconds.push(performance.now() - at);
    }
    client.close();
  }));
  const took = (performance.now() - begun) / 1000;
  return { perSecond: milliseconds.length / took, milliseconds, cpuMilliseconds: ((cpuSeconds(target.pid) - cpu) * 1000) / milliseconds.length };
}
