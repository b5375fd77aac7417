import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadAccess } from './access.ts';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'crucible-access-'));
});

afterEach(() => rm(folder, { recursive: true }));

const file = (name: string): string => path.join(folder, name);
const base64 = (text: string): string => Buffer.from(text).toString('base64');

async function kubeconfig(cluster: object, user: object): Promise<string> {
  await writeFile(
    file('config'),
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'c',
      clusters: [{ name: 'k', cluster }],
      users: [{ name: 'u', user }],
      contexts: [{ name: 'c', context: { cluster: 'k', user: 'u', namespace: 'evals' } }],
    }),
  );
  return file('config');
}

const SERVER = { server: 'https://127.0.0.1:6443/', 'certificate-authority-data': base64('the CA') };

describe('loadAccess in a cluster', () => {
  it('reads the service account each time: the kubelet replaces its token', async () => {
    await writeFile(file('token'), 'one\n');
    await writeFile(file('ca.crt'), 'the CA');
    await writeFile(file('namespace'), 'crucible-system');
    const access = await loadAccess({ serviceAccountRoot: folder, environment: { host: '10.0.0.1', port: '443' } });
    expect(access).toMatchObject({ server: 'https://10.0.0.1:443', namespace: 'crucible-system' });
    expect(await access.load()).toEqual({ headers: { authorization: 'Bearer one' }, tls: { ca: 'the CA' } });
    await writeFile(file('token'), 'two');
    await writeFile(file('ca.crt'), 'another CA');
    expect(await access.load()).toEqual({ headers: { authorization: 'Bearer two' }, tls: { ca: 'another CA' } });
    await writeFile(file('token'), '\n');
    await expect(access.load()).rejects.toThrow(/token is empty/);
  });

  it('writes an IPv6 address as a URL does, and says when this is no cluster', async () => {
    const access = await loadAccess({ serviceAccountRoot: folder, environment: { host: 'fd00::1', port: '443' } });
    expect(access.server).toBe('https://[fd00::1]:443');
    await expect(loadAccess({ environment: { host: '', port: '' } })).rejects.toMatchObject({
      reason: 'AuthenticationFailed',
    });
  });
});

describe('loadAccess from a kubeconfig', () => {
  it('takes client certificates and the CA', async () => {
    const user = { 'client-certificate-data': base64('cert'), 'client-key-data': base64('key') };
    const access = await loadAccess({
      kubeconfig: await kubeconfig({ ...SERVER, 'tls-server-name': 'kubernetes' }, user),
    });
    expect(access).toMatchObject({ server: 'https://127.0.0.1:6443', namespace: 'evals' });
    const credentials = await access.load();
    expect(credentials.tls).toMatchObject({ ca: 'the CA', cert: 'cert', key: 'key', servername: 'kubernetes' });
    expect(credentials.headers).toEqual({});
    expect(credentials.tls.rejectUnauthorized).toBeUndefined();
  });

  it('reads certificate files anew, relative to the kubeconfig', async () => {
    await writeFile(file('cert.pem'), 'one');
    const user = { 'client-certificate': 'cert.pem', 'client-key-data': base64('key') };
    const access = await loadAccess({ kubeconfig: await kubeconfig(SERVER, user) });
    expect((await access.load()).tls.cert).toBe('one');
    await writeFile(file('cert.pem'), 'two');
    expect((await access.load()).tls.cert).toBe('two');
  });

  it('reads tokenFile anew, which client-node ignores', async () => {
    await writeFile(file('token'), 'one\n');
    const access = await loadAccess({ kubeconfig: await kubeconfig(SERVER, { tokenFile: 'token' }) });
    expect((await access.load()).headers).toEqual({ authorization: 'Bearer one' });
    await writeFile(file('token'), 'two\n');
    expect((await access.load()).headers).toEqual({ authorization: 'Bearer two' });
  });

  it('takes tokens, passwords and impersonation', async () => {
    const token = await loadAccess({ kubeconfig: await kubeconfig(SERVER, { token: 'abc\n', as: 'jane' }) });
    expect((await token.load()).headers).toEqual({ authorization: 'Bearer abc', 'impersonate-user': 'jane' });
    const basic = await loadAccess({ kubeconfig: await kubeconfig(SERVER, { username: 'u', password: 'p' }) });
    expect((await basic.load()).headers).toEqual({ authorization: `Basic ${base64('u:p')}` });
  });

  it('does not repeat what a failing credential plug-in printed', async () => {
    const exec = {
      apiVersion: 'client.authentication.k8s.io/v1',
      command: process.execPath,
      args: ['-e', 'console.error("hunter2"); process.exit(1)'],
    };
    const access = await loadAccess({ kubeconfig: await kubeconfig(SERVER, { exec }) });
    const error = await access.load().catch((e: unknown) => e as Error);
    expect(error).toMatchObject({ reason: 'AuthenticationFailed' });
    expect(JSON.stringify([String(error), (error as Error).cause])).not.toContain('hunter2');
  });

  it('sends no credentials over plain HTTP, but to this machine', async () => {
    const config = await kubeconfig({ server: 'http://10.0.0.1:8080' }, { token: 'abc' });
    await expect(loadAccess({ kubeconfig: config })).rejects.toThrow(/must be https/);
    const local = await loadAccess({
      kubeconfig: await kubeconfig({ server: 'http://127.0.0.1:8001' }, { token: 'abc' }),
    });
    expect((await local.load()).headers).toEqual({});
  });
});
