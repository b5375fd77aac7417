import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { Agent as PlainAgent, request as plainRequest } from 'node:http';
import { Agent, request as httpsRequest } from 'node:https';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { join, resolve } from 'node:path';
import { build } from 'esbuild';

// The API as it is deployed: one bundle, its environment, TLS, a real socket.

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly text: string;
  // Tests look into it.
  readonly json: any;
}

export interface Call {
  readonly method?: string;
  readonly token?: string | undefined;
  readonly headers?: Record<string, string>;
  readonly body?: unknown;
}

/** With the very options of deploy/docker/api.Dockerfile. */
export async function bundleApi(folder: string): Promise<string> {
  const outdir = join(folder, 'app');
  await build({
    entryPoints: { api: resolve(import.meta.dirname, '../main.ts') }, outdir, outExtension: { '.js': '.mjs' }, bundle: true, splitting: true,
    minifyWhitespace: true, legalComments: 'external', platform: 'node', target: 'node24', format: 'esm', external: ['pg-native'], logLevel: 'warning',
    banner: { js: "import { createRequire as createRequireForBundle } from 'node:module'; const require = createRequireForBundle(import.meta.url);" },
  });
  return join(outdir, 'api.mjs');
}

/** Self-signed for 127.0.0.1, to be trusted by name. */
export function makeCertificate(folder: string): { cert: string; key: string } {
  const [cert, key] = [join(folder, 'tls.crt'), join(folder, 'tls.key')];
  execFileSync('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', '/CN=crucible-api',
    '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost', '-keyout', key, '-out', cert,
  ], { stdio: 'ignore' });
  return { cert, key };
}

const PATIENCE_MILLISECONDS = 60_000;

export class ApiProcess {
  readonly port: number;
  readonly child: ChildProcess;
  readonly exit: Promise<number | null>;
  readonly #ca: Buffer;
  readonly #agent: Agent | PlainAgent;
  readonly #plain: boolean;
  log = '';

  constructor(bundle: string, env: Record<string, string>, ca: string) {
    this.port = Number(env['PORT']);
    this.#ca = readFileSync(ca);
    this.#plain = env['CRUCIBLE_INSECURE_DEV'] === 'true';
    this.#agent = this.#plain ? new PlainAgent({ keepAlive: true }) : new Agent({ keepAlive: true, ca: this.#ca });
    this.child = spawn(process.execPath, [bundle], { env: { PATH: process.env['PATH'] ?? '', ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const output of [this.child.stdout, this.child.stderr]) output?.on('data', (data: Buffer) => (this.log += data.toString()));
    this.exit = new Promise((done) => this.child.once('exit', done));
  }

  get ca(): Buffer {
    return this.#ca;
  }

  /** The path goes out as it is: nothing normalises it. */
  open(path: string, { method = 'GET', token, headers = {}, body }: Call = {}, agent: Agent | PlainAgent | false = this.#agent): Promise<IncomingMessage> {
    return new Promise((resolvePromise, reject) => {
      const text = body === undefined ? undefined : typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
      const own = { ...(token !== undefined && { authorization: `Bearer ${token}` }), ...(text !== undefined && { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(text)) }) };
      const call = (this.#plain ? plainRequest : httpsRequest)({ host: '127.0.0.1', port: this.port, path, method, ...(!this.#plain && { ca: this.#ca }), agent, headers: { ...own, ...headers } }, resolvePromise);
      call.once('error', reject);
      call.end(text);
    });
  }

  async call(path: string, options: Call = {}): Promise<Answer> {
    const message = await this.open(path, options);
    const chunks: Buffer[] = [];
    for await (const chunk of message) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    const text = body.toString('utf8');
    const type = message.headers['content-type'] ?? '';
    return { status: message.statusCode ?? 0, headers: message.headers, body, text, json: type.includes('json') ? JSON.parse(text) : undefined };
  }

  async ready(): Promise<this> {
    await this.until('it to be ready', async () => (await this.call('/readyz').catch(() => undefined))?.status === 200);
    return this;
  }

  async until(what: string, look: () => Promise<boolean> | boolean): Promise<void> {
    for (const deadline = Date.now() + PATIENCE_MILLISECONDS; !(await look()); ) {
      if (Date.now() > deadline || this.child.exitCode !== null) throw new Error(`waited for ${what}: ${this.log.slice(-3000)}`);
      await new Promise((done) => setTimeout(done, 25));
    }
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    this.#agent.destroy();
    this.child.kill(signal);
    return await this.exit;
  }
}
