// An API server as far as the recorder sees one: list and watch of pods, and pods/log of containers that write over
// time. Connections to logs can be cut at any byte. There is no kubelet in the integration tier, hence this.
import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { LABELS } from '@crucible/crds';

export interface LogFaults {
  /** How many bytes the next connection delivers before it breaks; undefined: all. */
  readonly cutAfter: (pod: TestPod) => number | undefined;
}

/**
 * `halfOpen`: follows never get a byte nor an end. `endless`: they get no end. `over`: they end with the log, before anybody
 * is told that the container has.
 */
type LogMode = 'normal' | 'gone' | 'kubeletError' | 'halfOpen' | 'endless' | 'over';

export class TestPod {
  readonly uid = randomUUID();
  readonly jobUid = randomUUID();
  readonly evaluationUid = randomUUID();
  readonly name: string;
  /** What the kubelet's log file holds; drop bytes from the front to rotate it. */
  log: Buffer = Buffer.alloc(0);
  state: 'pending' | 'running' | 'ended' | 'neverStarted' = 'pending';
  mode: LogMode = 'normal';
  faults: LogFaults | undefined;
  connections = 0;
  /** So many plain reads stop after half the log, with the connection open. */
  silentReads = 0;
  readonly #changed = new Set<() => void>();

  constructor(name: string) {
    this.name = name;
  }

  write(data: Buffer): void {
    this.log = Buffer.concat([this.log, data]);
    this.wake();
  }

  wake(): void {
    for (const waiter of [...this.#changed]) waiter();
  }

  async change(): Promise<void> {
    await new Promise<void>((resolve) => {
      const finish = (): void => {
        this.#changed.delete(finish);
        resolve();
      };
      this.#changed.add(finish);
    });
  }

  toJSON(namespace: string, resourceVersion: number): object {
    const startedAt = new Date().toISOString();
    const state = {
      pending: { waiting: { reason: 'ContainerCreating' } },
      neverStarted: { waiting: { reason: 'ContainerCreating' } },
      running: { running: { startedAt } },
      ended: { terminated: { startedAt, finishedAt: startedAt, exitCode: 0, containerID: 'containerd://x' } },
    }[this.state];
    const phase = { pending: 'Pending', neverStarted: 'Failed', running: 'Running', ended: 'Succeeded' }[this.state];
    return {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name: this.name,
        namespace,
        uid: this.uid,
        resourceVersion: String(resourceVersion),
        creationTimestamp: '2026-01-01T00:00:00Z',
        labels: { [LABELS.sandbox]: 'true', [LABELS.evaluationUid]: this.evaluationUid, [LABELS.attempt]: '1' },
        ownerReferences: [{ apiVersion: 'batch/v1', kind: 'Job', name: 'job', uid: this.jobUid, controller: true }],
      },
      spec: { nodeName: 'node' },
      status: {
        phase,
        containerStatuses: [
          {
            name: 'sandbox',
            state,
            ...(this.state === 'pending' || this.state === 'neverStarted' ? {} : { containerID: 'containerd://x' }),
          },
        ],
      },
    };
  }
}

export class TestCluster {
  readonly namespace = 'evals';
  readonly #pods = new Map<string, TestPod>();
  readonly #watches = new Set<ServerResponse>();
  readonly #server: Server;
  #version = 100;

  constructor() {
    this.#server = createServer((request, response) => {
      this.#serve(request, response).catch(() => response.destroy());
    });
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
  }

  async stop(): Promise<void> {
    for (const pod of this.#pods.values()) {
      pod.mode = 'gone';
      pod.wake();
    }
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  add(pod: TestPod): void {
    this.#pods.set(pod.name, pod);
    this.#send('ADDED', pod);
  }

  setState(pod: TestPod, state: TestPod['state']): void {
    pod.state = state;
    pod.wake();
    this.#send('MODIFIED', pod);
  }

  /** Deleted by force: the log goes with it. */
  remove(pod: TestPod): void {
    pod.mode = 'gone';
    pod.wake();
    this.#pods.delete(pod.name);
    this.#send('DELETED', pod);
  }

  #send(type: string, pod: TestPod): void {
    this.#version += 1;
    const line = `${JSON.stringify({ type, object: pod.toJSON(this.namespace, this.#version) })}\n`;
    for (const watch of this.#watches) watch.write(line);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://x');
    const [, name] = /^\/api\/v1\/namespaces\/evals\/pods\/([^/]+)\/log$/.exec(url.pathname) ?? [];
    if (name !== undefined)
      return await this.#log(this.#pods.get(name), url.searchParams.get('follow') === 'true', response);
    if (url.pathname !== '/api/v1/namespaces/evals/pods') return status(response, 404, 'NotFound');
    response.writeHead(200, { 'content-type': 'application/json' });
    if (/^(1|true)$/.test(url.searchParams.get('watch') ?? '')) {
      this.#watches.add(response);
      response.on('close', () => this.#watches.delete(response));
      response.flushHeaders();
      return;
    }
    const items = [...this.#pods.values()].map((pod) => pod.toJSON(this.namespace, this.#version));
    response.end(
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'PodList',
        metadata: { resourceVersion: String(this.#version) },
        items,
      }),
    );
  }

  async #log(pod: TestPod | undefined, follow: boolean, response: ServerResponse): Promise<void> {
    if (pod === undefined) return status(response, 404, 'NotFound');
    if (pod.state === 'pending' || pod.state === 'neverStarted') return status(response, 400, 'BadRequest');
    pod.connections += 1;
    response.writeHead(200, { 'content-type': 'text/plain' });
    response.flushHeaders();
    if (pod.mode === 'kubeletError') {
      response.end('unable to retrieve container logs for containerd://x');
      return;
    }
    if (pod.mode === 'halfOpen' && follow) return;
    if (!follow && pod.silentReads > 0) {
      pod.silentReads -= 1;
      response.write(pod.log.subarray(0, pod.log.length / 2));
      return;
    }
    const closed = new Promise<void>((resolve) => response.once('close', resolve));
    const cutAt = pod.faults?.cutAfter(pod) ?? Infinity;
    for (let sent = 0; !response.destroyed;) {
      const end = Math.min(pod.log.length, sent + 16_384, cutAt);
      if (end > sent) {
        const more = response.write(pod.log.subarray(sent, end));
        sent = end;
        if (!more) await Promise.race([new Promise((resolve) => response.once('drain', resolve)), closed]);
      } else if (sent >= cutAt) {
        // Let what was written get out, so that the cut is where it was drawn.
        setTimeout(() => response.destroy(), 5);
        return;
      } else if (!follow || pod.mode === 'over' || (pod.state === 'ended' && pod.mode !== 'endless')) {
        response.end();
        return;
      } else if (pod.mode === 'gone') {
        response.destroy();
        return;
      } else {
        await Promise.race([pod.change(), closed]);
      }
    }
  }
}

function status(response: ServerResponse, code: number, reason: string): void {
  response.writeHead(code, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ apiVersion: 'v1', kind: 'Status', status: 'Failure', code, reason, message: reason }));
}
