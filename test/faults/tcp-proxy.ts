import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';

/** What one connection does with its bytes; by default they go through as they are. */
export type Join = (near: Socket, far: Socket) => void;

/** A server behind an address that can be taken away and given back. */
export class TcpProxy {
  readonly #target: { readonly host: string; readonly port: number };
  readonly #join: Join;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  #port = 0;
  #connections = 0;
  #lost = 0;

  constructor(target: { readonly host: string; readonly port: number }, join: Join = pipeBoth) {
    this.#target = target;
    this.#join = join;
  }

  /** The same from the first up() on. */
  get port(): number {
    return this.#port;
  }

  /** Connections that ended without their client's doing: the target's end of them broke, or they were cut here. */
  get lost(): number {
    return this.#lost;
  }

  /** The URL of the target, as seen through here. */
  through(url: string): string {
    const address = new URL(url);
    address.host = `127.0.0.1:${this.#port}`;
    return address.href;
  }

  async up(): Promise<void> {
    const server = createServer((near) => {
      const far = connect({ host: this.#target.host, port: this.#target.port });
      this.#connections += 1;
      near.once('close', () => {
        this.#connections -= 1;
      });
      far.once('close', () => {
        if (!near.destroyed) this.#lost += 1;
      });
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(one);
        one.setNoDelay(true);
        one
          .on('error', () => {})
          .on('close', () => {
            this.#sockets.delete(one);
            other.destroy();
          });
      }
      this.#join(near, far);
    });
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(this.#port, '127.0.0.1', resolve));
    this.#server = server;
    this.#port = (server.address() as AddressInfo).port;
  }

  /** Refuses and cuts, as when the server restarts. */
  async down(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    this.cut();
    if (server !== undefined) await new Promise((resolve) => server.close(resolve));
  }

  /** Breaks every connection; new ones work. */
  cut(): void {
    this.#lost += this.#connections;
    for (const socket of this.#sockets) socket.destroy();
  }
}

function pipeBoth(near: Socket, far: Socket): void {
  near.pipe(far).pipe(near);
}

/** Everything arrives, each way so many milliseconds late. */
export function late(milliseconds: () => number): Join {
  const carry = async (from: Socket, to: Socket): Promise<void> => {
    for await (const data of from) {
      await new Promise((resolve) => setTimeout(resolve, milliseconds()));
      if (!to.writable) return;
      to.write(data as Buffer);
    }
    to.end();
  };
  return (near, far) => {
    for (const [from, to] of [[near, far], [far, near]] as const) void carry(from, to).catch(() => to.destroy());
  };
}
