import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { LABELS, SANDBOX_CONTAINER } from '@crucible/crds';
import { ApiServer } from '../integration/api-server.ts';
import { containerStatus, kubeTime } from './pod-status.ts';
import type { StartedContainer } from './state.ts';

// A node without containers: it binds pods, reports their states as a kubelet does, and serves their logs to the API
// server over the kubelet's own protocol. What the containers print is scripted.

type Json = Record<string, any>;

/** What a container does. */
export interface Script {
  /** Lines of the log, each with its line feed. */
  readonly lines: readonly Buffer[];
  readonly exitCode: number;
  /** Over how long the lines are written. */
  readonly durationMs: number;
  /** Does not end by itself: only its deadline or its deletion ends it, and then the rest and the last line are written. */
  readonly untilEnded?: boolean;
}

/** Which script a pod plays; undefined: none of this node's business. */
export type Casting = (pod: { namespace: string; evaluation: string; attempt: number }) => Script | undefined;

/** How a container ends, and what the kubelet says of it and of its pod. */
export interface End {
  readonly exitCode: number;
  readonly containerReason?: string;
  readonly podReason?: string;
  readonly podMessage?: string;
  readonly conditions?: readonly object[];
}

/** Of a pod: it gets the node, its container starts, the container's end is told. */
export type Step = 'bind' | 'start' | 'report';

const POLL_MS = 100;
const STEPS = 10;
const SIGTERM_EXIT = 143;

class Container {
  log: Buffer = Buffer.alloc(0);
  readonly startedAt = new Date();
  readonly script: Script;
  /** Metadata of its pod. */
  readonly of: Json;
  ended: (End & { at: Date }) | undefined;
  /** That it runs, and that it has ended: each is told until it was heard. */
  introduced = false;
  reported = false;
  /** Lines. */
  #written = 0;
  readonly #waiters = new Set<() => void>();

  constructor(script: Script, of: Json) {
    this.script = script;
    this.of = of;
    void this.#play();
  }

  end(how: End): void {
    if (this.ended !== undefined) return;
    // What it had still to say, and its last line: the launcher's numbers have no holes.
    if (this.script.untilEnded === true) this.#write(this.script.lines.slice(this.#written));
    this.ended = { ...how, at: new Date() };
    this.#wake();
  }

  async changed(signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      const finish = (): void => {
        this.#waiters.delete(finish);
        signal.removeEventListener('abort', finish);
        resolve();
      };
      this.#waiters.add(finish);
      signal.addEventListener('abort', finish, { once: true });
    });
  }

  async #play(): Promise<void> {
    const { lines, durationMs, untilEnded, exitCode } = this.script;
    const all = untilEnded === true ? lines.slice(0, -1) : lines;
    const each = Math.ceil(all.length / STEPS);
    for (let step = 0; step < STEPS && this.ended === undefined; step += 1) {
      this.#write(all.slice(step * each, (step + 1) * each));
      await pause(durationMs / STEPS);
    }
    if (untilEnded !== true) this.end({ exitCode });
  }

  #write(lines: readonly Buffer[]): void {
    this.#written += lines.length;
    this.log = Buffer.concat([this.log, ...lines]);
    this.#wake();
  }

  #wake(): void {
    for (const waiter of [...this.#waiters]) waiter();
  }
}

export class PlayedNode {
  readonly name = 'node-1';
  /** Pods of which the next step is withheld. */
  gate: (step: Step, evaluation: string) => boolean = () => true;
  /** Pods, by uid, whose kubelet has stopped: no word of them, and no log. */
  readonly silent = new Set<string>();
  readonly #api: ApiServer;
  readonly #server: Server;
  readonly #casts = new Set<Casting>();
  readonly #containers = new Map<string, Container>();
  readonly #failures: string[] = [];
  #stopped = false;
  #loop: Promise<void> = Promise.resolve();

  /** `tls`: paths of a certificate and its key; the API server does not check a kubelet's by default. */
  constructor(kubeconfig: string, tls: { readonly certificate: string; readonly key: string }) {
    this.#api = new ApiServer(kubeconfig);
    this.#server = createServer({ cert: readFileSync(tls.certificate), key: readFileSync(tls.key) }, (incoming, response) =>
      this.#serve(incoming, response).catch(() => response.destroy()),
    );
  }

  /** What went wrong in playing; a test that ends with some proves nothing. */
  get failures(): readonly string[] {
    return this.#failures;
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    const { port } = this.#server.address() as AddressInfo;
    await this.#must('POST', '/api/v1/nodes', { apiVersion: 'v1', kind: 'Node', metadata: { name: this.name } });
    const status = {
      addresses: [{ type: 'InternalIP', address: '127.0.0.1' }],
      daemonEndpoints: { kubeletEndpoint: { Port: port } },
    };
    await this.#must('PATCH', `/api/v1/nodes/${this.name}/status`, { status }, 'application/merge-patch+json');
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#loop;
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
    this.#api.close();
  }

  /** As the kernel or the kubelet would; a container that has ended, and nobody knows, ends like this instead. */
  end(podUid: string, how: End): void {
    const container = this.#containers.get(podUid);
    if (container === undefined || container.reported) throw new Error('there is no container to be ended');
    container.end(how);
    container.ended = { ...how, at: container.ended!.at };
  }

  /** Containers that were started in this namespace. */
  started(namespace: string): StartedContainer[] {
    return [...this.#containers].flatMap(([podUid, { of }]) =>
      of.namespace === namespace ? [{ podUid, evaluationUid: of.labels[LABELS.evaluationUid], attempt: Number(of.labels[LABELS.attempt]) }] : [],
    );
  }

  ran(podUid: string): boolean {
    return this.#containers.has(podUid);
  }

  /** Whether its container still has lines to write. */
  writes(podUid: string): boolean {
    const container = this.#containers.get(podUid);
    return container !== undefined && container.ended === undefined;
  }

  cast(casting: Casting): () => void {
    this.#casts.add(casting);
    return () => this.#casts.delete(casting);
  }

  async #run(): Promise<void> {
    const selector = encodeURIComponent(`${LABELS.sandbox}=true`);
    while (!this.#stopped) {
      try {
        const { items } = await this.#must('GET', `/api/v1/pods?labelSelector=${selector}`);
        await Promise.all((items as Json[]).map((pod) => this.#step(pod)));
      } catch (error) {
        this.#failures.push(String(error));
      }
      await pause(POLL_MS);
    }
  }

  /** One thing that is to be done about a pod. */
  async #step(pod: Json): Promise<void> {
    const { uid, deletionTimestamp } = pod['metadata'] as Json;
    if (this.silent.has(uid)) return;
    const path = `/api/v1/namespaces/${pod['metadata'].namespace}/pods/${pod['metadata'].name}`;
    const evaluation = pod['metadata'].labels?.[LABELS.evaluation] ?? '';
    if (pod['spec'].nodeName === undefined) {
      const mine = deletionTimestamp === undefined && this.#scriptOf(pod) !== undefined;
      if (mine && this.gate('bind', evaluation)) await this.#bind(path, pod);
      return;
    }
    const container = this.#containers.get(uid);
    if (container === undefined) {
      if (deletionTimestamp !== undefined || this.gate('start', evaluation)) await this.#startContainer(path, pod);
      return;
    }
    if (container.ended === undefined) {
      if (!container.introduced) container.introduced = await this.#introduce(path, container);
      this.#endIfDue(pod, container);
    }
    if (container.ended !== undefined && !container.reported) {
      if (!this.gate('report', evaluation)) return;
      container.reported = await this.#report(path, pod, container);
    } else if (container.reported && deletionTimestamp !== undefined && pod['metadata'].deletionGracePeriodSeconds !== 0) {
      // As a kubelet, once the containers have ended.
      await this.#try('DELETE', path, { gracePeriodSeconds: 0, preconditions: { uid } });
    }
  }

  #scriptOf(pod: Json): Script | undefined {
    const { namespace, labels = {} } = pod['metadata'];
    const who = { namespace, evaluation: labels[LABELS.evaluation] ?? '', attempt: Number(labels[LABELS.attempt]) };
    for (const casting of this.#casts) {
      const script = casting(who);
      if (script !== undefined) return script;
    }
    return undefined;
  }

  async #bind(path: string, pod: Json): Promise<void> {
    const binding = { apiVersion: 'v1', kind: 'Binding', metadata: { name: pod['metadata'].name } };
    await this.#try('POST', `${path}/binding`, { ...binding, target: { kind: 'Node', name: this.name } });
  }

  async #startContainer(path: string, pod: Json): Promise<void> {
    const script = this.#scriptOf(pod);
    if (script === undefined || pod['status']?.phase === 'Succeeded' || pod['status']?.phase === 'Failed') return;
    if (pod['metadata'].deletionTimestamp !== undefined) {
      await this.#try('DELETE', path, { gracePeriodSeconds: 0, preconditions: { uid: pod['metadata'].uid } });
      return;
    }
    const container = new Container(script, pod['metadata'] as Json);
    this.#containers.set(pod['metadata'].uid, container);
    container.introduced = await this.#introduce(path, container);
  }

  async #introduce(path: string, container: Container): Promise<boolean> {
    const startedAt = kubeTime(container.startedAt);
    return await this.#status(path, {
      phase: 'Running',
      startTime: startedAt,
      containerStatuses: [containerStatus({ running: { startedAt } })],
    });
  }

  #endIfDue(pod: Json, container: Container): void {
    const limit = pod['spec'].activeDeadlineSeconds as number | undefined;
    const since = Date.parse(pod['status']?.startTime ?? '');
    if (limit !== undefined && Date.now() >= since + limit * 1000) container.end({ exitCode: SIGTERM_EXIT, podReason: 'DeadlineExceeded' });
    else if (pod['metadata'].deletionTimestamp !== undefined) container.end({ exitCode: SIGTERM_EXIT });
  }

  async #report(path: string, pod: Json, { startedAt, ended }: Container): Promise<boolean> {
    const { exitCode, at, containerReason, podReason, podMessage, conditions } = ended!;
    const terminated = {
      exitCode,
      reason: containerReason ?? (exitCode === 0 ? 'Completed' : 'Error'),
      startedAt: kubeTime(startedAt),
      finishedAt: kubeTime(at),
      containerID: `containerd://${pod['metadata'].uid}`,
    };
    return await this.#status(path, {
      phase: exitCode === 0 && podReason === undefined ? 'Succeeded' : 'Failed',
      ...(podReason && { reason: podReason }),
      ...(podMessage && { message: podMessage }),
      ...(conditions && { conditions }),
      containerStatuses: [containerStatus({ terminated })],
    });
  }

  /** `GET /containerLogs/<namespace>/<pod>/<container>?follow=true` */
  async #serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(incoming.url ?? '/', 'https://x');
    const [, kind, namespace, name, container] = url.pathname.split('/');
    const played = kind === 'containerLogs' && container === SANDBOX_CONTAINER && (await this.#find(namespace!, name!));
    if (!played) {
      response.writeHead(404).end('no such container');
      return;
    }
    const follow = url.searchParams.get('follow') === 'true';
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    response.writeHead(200, { 'content-type': 'text/plain' });
    response.flushHeaders();
    for (let sent = 0; !gone.signal.aborted; ) {
      const { log } = played;
      if (log.length > sent) {
        if (!response.write(log.subarray(sent))) await Promise.race([once(response, 'drain'), once(response, 'close')]);
        sent = log.length;
      } else if (!follow || played.ended !== undefined) {
        response.end();
        return;
      } else await played.changed(gone.signal);
    }
  }

  async #find(namespace: string, name: string): Promise<Container | undefined> {
    const { body } = await this.#api.get(`/api/v1/namespaces/${namespace}/pods/${name}`);
    const uid = body['metadata']?.uid ?? '';
    return this.silent.has(uid) ? undefined : this.#containers.get(uid);
  }

  async #status(path: string, status: Json): Promise<boolean> {
    return await this.#try('PATCH', `${path}/status`, { status }, 'application/merge-patch+json');
  }

  /** Whether it was done. Somebody may have been faster; the next round looks again. */
  async #try(method: string, path: string, body: unknown, contentType?: string): Promise<boolean> {
    const response = await this.#api.send(method, path, body, contentType);
    if (response.status >= 300 && response.status !== 404 && response.status !== 409)
      this.#failures.push(`${method} ${path}: ${response.status} ${response.body['message']}`);
    return response.status < 300;
  }

  async #must(method: string, path: string, body?: unknown, contentType?: string): Promise<Json> {
    const response = await this.#api.send(method, path, body, contentType);
    if (response.status >= 300) throw new Error(`${method} ${path}: ${response.status} ${response.body['message']}`);
    return response.body;
  }
}

function once(response: ServerResponse, event: string): Promise<void> {
  return new Promise((resolve) => response.once(event, () => resolve()));
}
