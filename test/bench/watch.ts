import { readFileSync } from 'node:fs';
import type { ClientRequest, IncomingMessage } from 'node:http';
import { request } from 'node:https';

// A watch of the benchmark's own: what is measured must not be what measures.

interface Kubeconfig {
  readonly clusters: readonly [{ readonly cluster: { readonly server: string; readonly 'certificate-authority-data': string } }];
  readonly users: readonly [{ readonly user: { readonly token: string } }];
}

export interface WatchedObject {
  readonly metadata: { readonly name: string; readonly uid: string; readonly resourceVersion: string; readonly labels?: Readonly<Record<string, string>> };
  // Whatever the API server sends.
  readonly status?: Record<string, any>;
}

/**
 * Calls back with every change from now on; resolves once the server has answered, with what ends it. A watch that the
 * server ends (it does so when a watcher is too slow for it) goes on where it was; one that cannot is an error that ends
 * the process, because what it missed is not measured. `worth`: which lines are worth reading, as reading all of them would
 * take the measured processes' time.
 */
export async function watch(
  kubeconfigPath: string,
  path: string,
  onChange: (object: WatchedObject) => void,
  worth: (line: string) => boolean = () => true,
): Promise<() => void> {
  const config = JSON.parse(readFileSync(kubeconfigPath, 'utf8')) as Kubeconfig;
  let version = '0';
  let stopped = false;
  let call: ClientRequest;
  const open = (): Promise<void> =>
    new Promise((resolve, reject) => {
      call = openWatch(config, `${path}?watch=true&timeoutSeconds=3600&resourceVersion=${version}`, (response) => {
        let rest = '';
        response.setEncoding('utf8').on('data', (chunk: string) => {
          const lines = (rest + chunk).split('\n');
          rest = lines.pop() ?? '';
          for (const line of lines) {
            if (line.startsWith('{"type":"ERROR"')) throw new Error(`the watch of ${path} cannot go on: ${line}`);
            version = /"resourceVersion":"(\d+)"/.exec(line)![1]!;
            if (worth(line)) onChange((JSON.parse(line) as { object: WatchedObject }).object);
          }
        });
        response.on('error', () => undefined);
        response.on('close', () => stopped || void open());
        resolve();
      });
      call.on('error', reject);
    });
  await open();
  return () => {
    stopped = true;
    call.destroy();
  };
}

function openWatch(config: Kubeconfig, path: string, onResponse: (response: IncomingMessage) => void): ClientRequest {
  const { server, 'certificate-authority-data': ca } = config.clusters[0].cluster;
  const headers = { authorization: `Bearer ${config.users[0].user.token}` };
  return request(new URL(path, server), { ca: Buffer.from(ca, 'base64'), headers }, onResponse).end();
}
