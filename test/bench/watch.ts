import { readFileSync } from 'node:fs';
import { request } from 'node:https';

// A watch of the benchmark's own: what is measured must not be what measures.

interface Kubeconfig {
  readonly clusters: readonly [{ readonly cluster: { readonly server: string; readonly 'certificate-authority-data': string } }];
  readonly users: readonly [{ readonly user: { readonly token: string } }];
}

export interface WatchedObject {
  readonly metadata: { readonly name: string; readonly uid: string; readonly labels?: Readonly<Record<string, string>> };
  // Whatever the API server sends.
  readonly status?: Record<string, any>;
}

/** Calls back with every change from now on; resolves once the server has answered, with what ends it. */
export function watch(kubeconfigPath: string, path: string, onChange: (object: WatchedObject) => void): Promise<() => void> {
  const config = JSON.parse(readFileSync(kubeconfigPath, 'utf8')) as Kubeconfig;
  const { server, 'certificate-authority-data': ca } = config.clusters[0].cluster;
  return new Promise((resolve, reject) => {
    const call = request(
      new URL(`${path}?watch=true&timeoutSeconds=3600&resourceVersion=0`, server),
      { ca: Buffer.from(ca, 'base64'), headers: { authorization: `Bearer ${config.users[0].user.token}` } },
      (response) => {
        let rest = '';
        response.setEncoding('utf8').on('data', (chunk: string) => {
          const lines = (rest + chunk).split('\n');
          rest = lines.pop() ?? '';
          for (const line of lines) onChange((JSON.parse(line) as { object: WatchedObject }).object);
        });
        response.on('error', () => undefined);
        resolve(() => call.destroy());
      },
    );
    call.on('error', reject);
    call.end();
  });
}
