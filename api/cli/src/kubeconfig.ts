import { execFile, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { CliError } from './errors.ts';

// kubectl itself reads the kubeconfig: it knows about KUBECONFIG with several files, contexts and their defaults. Only
// what to do with a user's entry is ours.

export interface KubeOptions {
  readonly kubeconfig?: string | undefined;
  readonly context?: string | undefined;
}

interface ExecPlugin {
  readonly apiVersion: string;
  readonly command: string;
  readonly args?: readonly string[] | null;
  readonly env?: readonly { readonly name: string; readonly value: string }[] | null;
  readonly installHint?: string;
  readonly interactiveMode?: string;
}

interface KubeUser {
  readonly token?: string;
  readonly tokenFile?: string;
  readonly exec?: ExecPlugin;
  readonly [other: string]: unknown;
}

export interface KubeContext {
  readonly name: string;
  readonly namespace: string | undefined;
  readonly user: KubeUser;
}

export type TokenSource = () => string | Promise<string>;

const flags = ({ kubeconfig, context }: KubeOptions): string[] => [
  ...(kubeconfig === undefined ? [] : ['--kubeconfig', kubeconfig]),
  ...(context === undefined ? [] : ['--context', context]),
];

function kubectl(args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile('kubectl', [...args], { maxBuffer: 16 * 1024 * 1024 }, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout);
      const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
      reject(
        new CliError(
          missing
            ? 'kubectl is not on the PATH'
            : stderr
                .trim()
                .replace(/^error: /i, '')
                .split('\n')[0] || `kubectl ended with ${String(error.code)}`,
        ),
      );
    });
  });
}

/** Undefined when there is no context to speak of and none was asked for. Throws in kubectl's words otherwise. */
export async function readContext(options: KubeOptions): Promise<KubeContext | undefined> {
  let text: string;
  try {
    text = await kubectl(['config', 'view', '--minify', '--flatten', '--raw', '-o', 'json', ...flags(options)]);
  } catch (error) {
    if (options.context === undefined && options.kubeconfig === undefined && process.env['KUBECONFIG'] === undefined)
      return undefined;
    throw new CliError(`the kubeconfig cannot be read: ${(error as Error).message}`);
  }
  const config = JSON.parse(text) as {
    'current-context'?: string;
    contexts?: { name: string; context: { namespace?: string } }[] | null;
    users?: { user: KubeUser }[] | null;
  };
  const context = config.contexts?.[0];
  if (context === undefined) return undefined;
  return { name: context.name, namespace: context.context.namespace, user: config.users?.[0]?.user ?? {} };
}

/** A bearer token of the context’s user: its token, its token file, or what its exec plugin gives. */
export function tokenOf({ name, user }: KubeContext): TokenSource {
  const { token, tokenFile, exec } = user;
  if (tokenFile !== undefined) return () => readTokenFile(tokenFile);
  if (token !== undefined) return () => token;
  if (exec !== undefined) return execToken(exec, name);
  const has =
    'client-certificate-data' in user || 'client-certificate' in user
      ? 'a client certificate, which proves nothing to Crucible’s API'
      : 'no token';
  throw new CliError(
    `the context ${name} has ${has}: give --service-account NAME (kubectl makes a token for it), --token-file, or CRUCIBLE_TOKEN`,
  );
}

export function readTokenFile(path: string): string {
  let token: string;
  try {
    token = readFileSync(path, 'utf8').trim();
  } catch (error) {
    throw new CliError(`the token file cannot be read: ${(error as Error).message}`);
  }
  return checkToken(token, path);
}

/** Header injection aside, this finds the file that is not a token before a server has to say so. */
export function checkToken(token: string, from: string): string {
  if (!/^[\x21-\x7e]+$/.test(token))
    throw new CliError(`there is no token in ${from}: one word is expected, as \`kubectl create token\` prints it`);
  return token;
}

/** client-go's credential plugins: the command prints an ExecCredential. Asked again when the token has expired. */
function execToken(plugin: ExecPlugin, context: string): TokenSource {
  let known: { token: string; until: number } | undefined;
  return async () => {
    if (known !== undefined && known.until > Date.now() + 10_000) return known.token;
    const text = await runPlugin(plugin);
    let status: { token?: unknown; expirationTimestamp?: string } | undefined;
    try {
      status = (JSON.parse(text) as { status?: typeof status }).status;
    } catch {
      throw new CliError(
        `${plugin.command}, which the context ${context} names, printed something else than an ExecCredential`,
      );
    }
    if (typeof status?.token !== 'string')
      throw new CliError(
        `${plugin.command}, which the context ${context} names, gave no token: only tokens work with Crucible’s API`,
      );
    const until = status.expirationTimestamp === undefined ? Infinity : Date.parse(status.expirationTimestamp);
    known = { token: checkToken(status.token, plugin.command), until };
    return known.token;
  };
}

function runPlugin({ apiVersion, command, args, env, installHint, interactiveMode }: ExecPlugin): Promise<string> {
  const interactive = interactiveMode !== 'Never' && process.stdin.isTTY;
  const info = { apiVersion, kind: 'ExecCredential', spec: { interactive } };
  const own = Object.fromEntries((env ?? []).map(({ name, value }) => [name, value]));
  return new Promise((resolve, reject) => {
    const child = spawn(command, [...(args ?? [])], {
      env: { ...process.env, ...own, KUBERNETES_EXEC_INFO: JSON.stringify(info) },
      stdio: [interactive ? 'inherit' : 'ignore', 'pipe', 'inherit'],
    });
    let text = '';
    child.stdout?.setEncoding('utf8').on('data', (piece: string) => (text += piece));
    child.once('error', (error) =>
      reject(
        new CliError(
          `the kubeconfig’s credential plugin ${command} cannot be run: ${error.message}${installHint === undefined ? '' : `; ${installHint}`}`,
        ),
      ),
    );
    child.once('close', (code) =>
      code === 0
        ? resolve(text)
        : reject(new CliError(`the kubeconfig’s credential plugin ${command} ended with ${String(code)}`)),
    );
  });
}

const SERVICE_ACCOUNT_SECONDS = 3600;

/** For clusters whose people have certificates: a token of a service account, made with the caller's own rights. */
export function serviceAccountToken(account: string, namespace: string, options: KubeOptions): TokenSource {
  let known: { token: Promise<string>; until: number } | undefined;
  return () => {
    if (known === undefined || known.until < Date.now()) {
      const token = kubectl([
        'create',
        'token',
        account,
        '-n',
        namespace,
        `--duration=${SERVICE_ACCOUNT_SECONDS}s`,
        ...flags(options),
      ]).then((text) => text.trim());
      known = { token, until: Date.now() + (SERVICE_ACCOUNT_SECONDS - 300) * 1000 };
    }
    return known.token;
  };
}
