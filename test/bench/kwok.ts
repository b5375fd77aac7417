import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { ApiServer } from '../integration/api-server.ts';
import { kubeBinary } from '../integration/kubernetes.ts';
import { SetupError, freePort, isExecutable } from '../integration/processes.ts';
import type { Sandbox, Server } from '../integration/processes.ts';
import { encodeLines } from '../../operator/src/recorder/testing/encoder.ts';

// A node that kwok plays: it reports what its configuration says, and serves logs from files with the kubelet's own code.

export const NODE = 'kwok-0';
const READY_SECONDS = 30;

/** `documents`: of kwok's configuration, each YAML or JSON: stages, and where logs are. */
export async function startKwok(sandbox: Sandbox, kubeconfig: string, api: ApiServer, documents: readonly string[]): Promise<Server> {
  const kwok = join(dirname(kubeBinary()), 'kwok');
  if (!isExecutable(kwok)) throw new SetupError(`no kwok at ${kwok}: \`make bench\` builds it`);
  const config = join(sandbox.folder('kwok'), 'kwok.yaml');
  writeFileSync(config, documents.join('\n---\n'));
  const port = await freePort();
  const certificates = dirname(kubeconfig);
  const server = sandbox.start('kwok', kwok, [
    `--kubeconfig=${kubeconfig}`,
    `--config=${config}`,
    '--manage-all-nodes=true',
    '--node-ip=127.0.0.1',
    `--node-port=${port}`,
    `--server-address=127.0.0.1:${port}`,
    `--tls-cert-file=${join(certificates, 'apiserver.crt')}`,
    `--tls-private-key-file=${join(certificates, 'apiserver.key')}`,
    '--node-lease-duration-seconds=0',
  ]);
  const { status, body } = await api.create('/api/v1/nodes', { apiVersion: 'v1', kind: 'Node', metadata: { name: NODE } });
  if (status >= 300) throw new Error(String(body['message']));
  const ready = async (): Promise<boolean> => {
    const node = await api.get(`/api/v1/nodes/${NODE}`);
    return (node.body['status']?.conditions ?? []).some(({ type, status: is }: { type: string; status: string }) => type === 'Ready' && is === 'True');
  };
  await server.ready(ready, READY_SECONDS);
  // Every node begins tainted as not ready; the controller that would take it off would also want heartbeats.
  await api.mergePatch(`/api/v1/nodes/${NODE}`, { spec: { taints: null } });
  return server;
}

/** A log as the container runtime writes it, and as kwok and the kubelet read it. */
export function runtimeLog(frames: readonly Buffer[]): Buffer {
  const now = new Date().toISOString().replace('Z', '000000Z');
  return Buffer.concat(frames.flatMap((frame) => [Buffer.from(`${now} stdout F `), frame]));
}

/** The frames of a run that printed so many bytes, in lines of so many. Without a receipt: none could be true of every pod. */
export function frames(outputBytes: number, lineBytes = 100): Buffer[] {
  const line = `${'x'.repeat(lineBytes - 1)}\n`;
  return encodeLines([{ stream: 'stdout', data: Buffer.from(line.repeat(Math.ceil(outputBytes / line.length))) }], { receipt: false });
}
