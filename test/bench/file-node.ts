import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import type { ApiServer } from '../integration/api-server.ts';
import { NODE } from './kwok.ts';

// A node that serves logs and nothing else, to as many followers as ask: kwok, like a kubelet, needs one inotify instance
// for each follower, and Linux gives a user 128 unless told otherwise.

/** Files hold frames as the launcher writes them, by the pod's name. A follower gets what there is, and then silence. */
export async function startFileNode(kubeconfig: string, api: ApiServer, files: ReadonlyMap<string, string>): Promise<() => void> {
  const certificates = dirname(kubeconfig);
  const tls = { cert: readFileSync(join(certificates, 'apiserver.crt')), key: readFileSync(join(certificates, 'apiserver.key')) };
  const server = createServer(tls, (request, response) => {
    const url = new URL(request.url ?? '/', 'https://node');
    const [, kind, , name = ''] = url.pathname.split('/');
    const file = kind === 'containerLogs' ? files.get(name) : undefined;
    if (file === undefined) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { 'content-type': 'text/plain' });
    response.write(readFileSync(file));
    if (url.searchParams.get('follow') !== 'true') response.end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const { status, body } = await api.create('/api/v1/nodes', { apiVersion: 'v1', kind: 'Node', metadata: { name: NODE } });
  if (status >= 300) throw new Error(String(body['message']));
  const nodeStatus = { addresses: [{ type: 'InternalIP', address: '127.0.0.1' }], daemonEndpoints: { kubeletEndpoint: { Port: port } } };
  await api.mergePatch(`/api/v1/nodes/${NODE}/status`, { status: nodeStatus });
  return () => {
    server.closeAllConnections();
    server.close();
  };
}
