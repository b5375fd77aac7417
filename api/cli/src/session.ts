import { readFileSync } from 'node:fs';
// Not by name: an older Node.js has not all of it, and is to be told so in a sentence.
import * as tls from 'node:tls';
import { StartupAwareClient, type Waiting } from '@crucible/client';
import { CliError, usageError, type AssumedNamespace } from './errors.ts';
import {
  checkToken,
  readContext,
  readTokenFile,
  serviceAccountToken,
  tokenOf,
  type KubeContext,
  type KubeOptions,
  type TokenSource,
} from './kubeconfig.ts';

export interface GlobalOptions extends KubeOptions {
  readonly server?: string | undefined;
  readonly tokenFile?: string | undefined;
  readonly serviceAccount?: string | undefined;
  readonly caFile?: string | undefined;
  readonly namespace?: string | undefined;
}

export type Environment = Readonly<Record<string, string | undefined>>;

const NAMESPACE = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const LOOPBACK = /^(127(\.\d{1,3}){3}|localhost|\[::1\])$/;

/** Where Crucible is and who asks: found out when it is needed, once. */
export class Session {
  readonly #options: GlobalOptions;
  readonly #env: Environment;
  readonly #onWait: (text: string) => void;
  #context: Promise<KubeContext | undefined> | undefined;
  #client: Promise<StartupAwareClient> | undefined;
  /** For the sentence that a refused token is answered with. */
  tokenSource = 'nowhere';
  assumedNamespace: AssumedNamespace | undefined;

  constructor(options: GlobalOptions, env: Environment, onWait: (text: string) => void) {
    this.#options = options;
    this.#env = env;
    this.#onWait = onWait;
  }

  async namespace(): Promise<string> {
    const context = this.#options.namespace === undefined ? await this.#kube() : undefined;
    const namespace = this.#options.namespace ?? context?.namespace ?? 'default';
    if (this.#options.namespace === undefined)
      this.assumedNamespace = {
        name: namespace,
        source:
          context?.namespace === undefined
            ? 'neither -n nor the kubeconfig’s context names a namespace'
            : `it is the namespace of the kubeconfig’s context ${context.name}, and -n was not given`,
      };
    if (!NAMESPACE.test(namespace)) throw usageError(`${JSON.stringify(namespace)} is not the name of a namespace`);
    return namespace;
  }

  client(): Promise<StartupAwareClient> {
    return (this.#client ??= this.#connect());
  }

  async #connect(): Promise<StartupAwareClient> {
    const baseUrl = serverUrl(this.#options.server ?? this.#env['CRUCIBLE_SERVER']);
    const caFile = this.#options.caFile ?? this.#env['CRUCIBLE_CA_FILE'];
    if (caFile !== undefined) trustOnly(caFile);
    const token = await this.#token();
    let last = '';
    const onWait = ({ reason, elapsedSeconds, windowSeconds, status }: Waiting): void => {
      const text = status === 429 ? reason : `waiting for ${baseUrl}: ${reason}`;
      if (text !== last) this.#onWait(`${text} (for ${Math.round(windowSeconds - elapsedSeconds)} s more at most)`);
      last = text;
    };
    return new StartupAwareClient({ baseUrl, token, onWait });
  }

  /** The command line, where a context is named for its user, before the environment, before the current context. */
  async #token(): Promise<TokenSource> {
    const { tokenFile, serviceAccount, context: named } = this.#options;
    const env = this.#env;
    if (tokenFile !== undefined) return this.#from(`--token-file ${tokenFile}`, () => readTokenFile(tokenFile));
    if (serviceAccount !== undefined) return await this.#serviceAccount(serviceAccount, '--service-account');
    if (named !== undefined) return await this.#ofContext();
    const { CRUCIBLE_TOKEN: given, CRUCIBLE_TOKEN_FILE: file, CRUCIBLE_SERVICE_ACCOUNT: account } = env;
    if (given) return this.#from('CRUCIBLE_TOKEN', () => checkToken(given.trim(), 'CRUCIBLE_TOKEN'));
    if (file) return this.#from(`CRUCIBLE_TOKEN_FILE ${file}`, () => readTokenFile(file));
    if (account) return await this.#serviceAccount(account, 'CRUCIBLE_SERVICE_ACCOUNT');
    return await this.#ofContext();
  }

  async #ofContext(): Promise<TokenSource> {
    const context = await this.#kube();
    if (context === undefined)
      throw new CliError(
        'no token: there is no kubeconfig with a current context; give --token-file, CRUCIBLE_TOKEN or --service-account',
      );
    return this.#from(`the kubeconfig’s context ${context.name}`, tokenOf(context));
  }

  #from(source: string, token: TokenSource): TokenSource {
    this.tokenSource = source;
    return token;
  }

  /** NAME in the namespace in question, or NAMESPACE/NAME. */
  async #serviceAccount(account: string, option: string): Promise<TokenSource> {
    const [, namespace = await this.namespace(), name = ''] = /^(?:([a-z0-9-]+)\/)?([a-z0-9.-]+)$/.exec(account) ?? [];
    if (name === '') throw usageError(`${option}: ${JSON.stringify(account)} is not the name of a service account`);
    return this.#from(`the service account ${namespace}/${name}`, serviceAccountToken(name, namespace, this.#options));
  }

  #kube(): Promise<KubeContext | undefined> {
    return (this.#context ??= readContext(this.#options));
  }
}

/** A token goes over TLS or does not leave this machine. */
export function serverUrl(given: string | undefined): string {
  if (given === undefined || given === '')
    throw usageError('where is Crucible? Give --server https://… or CRUCIBLE_SERVER (local cluster: `make url`)');
  const url = URL.parse(given);
  if (url === null || !/^https?:$/.test(url.protocol))
    throw usageError(`${JSON.stringify(given)} is not an address: https://… is expected`);
  if (url.username !== '' || url.search !== '' || url.hash !== '')
    throw usageError('an address without user, query and fragment is expected: https://host:port');
  if (url.protocol === 'http:' && !LOOPBACK.test(url.hostname))
    throw usageError(`${url.origin} is not encrypted, and your token would be sent to it: use https://`);
  return url.href.replace(/\/$/, '');
}

/** As kubectl’s certificate-authority: instead of what the system trusts. */
function trustOnly(file: string): void {
  let pem: string;
  try {
    pem = readFileSync(file, 'utf8');
  } catch (error) {
    throw new CliError(`the CA file cannot be read: ${(error as Error).message}`);
  }
  try {
    tls.setDefaultCACertificates([pem]);
    if (tls.getCACertificates('default').length === 0) throw new Error('it has none');
  } catch {
    throw new CliError(`there is no certificate in ${file}: a PEM file with "BEGIN CERTIFICATE" is expected`);
  }
}
