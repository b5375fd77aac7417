import type { ApiServer } from '../integration/api-server.ts';
import { RELEASE_NAMESPACE, renderChart } from '../integration/chart.ts';
import type { Manifest } from '../integration/chart.ts';

// What our programs may do: what the chart gives them and no more, or what they do here says nothing of an installation.

const API = '/apis/rbac.authorization.k8s.io/v1';
/** Of the service accounts. */
export const SYSTEM = 'faults-system';
export const ACCOUNTS = ['operator', 'recorder'] as const;
export type Account = (typeof ACCOUNTS)[number];

/** A role of the chart, who has it, and where: in all of the cluster, in evaluation namespaces, or in the programs' own. */
interface Right {
  readonly name: string;
  readonly account: Account;
  readonly where: 'cluster' | 'evaluations' | 'own';
  readonly rules: unknown;
}

export class Rights {
  readonly #api: ApiServer;
  readonly #rights: readonly Right[];

  constructor(api: ApiServer) {
    this.#api = api;
    this.#rights = rightsOf(renderChart('--set', 'kueue.enabled=true'));
  }

  /** Of all accounts, wherever they are bound … */
  async grant(): Promise<void> {
    for (const { name, rules } of this.#rights) await this.#make(`${API}/clusterroles`, { metadata: { name }, rules });
    for (const right of this.#rights.filter(({ where }) => where === 'cluster'))
      await this.#make(`${API}/clusterrolebindings`, bindingOf(right));
  }

  /** … and none: a binding without its role gives nothing. */
  async revoke(): Promise<void> {
    for (const { name } of this.#rights) await this.#api.delete(`${API}/clusterroles/${name}`);
  }

  /** Into an evaluation namespace, as the chart binds them there, and into the programs' own. */
  async bind(namespaces: Readonly<Record<'evaluations' | 'own', string>>): Promise<void> {
    for (const right of this.#rights)
      if (right.where !== 'cluster') await this.#make(`${API}/namespaces/${namespaces[right.where]}/rolebindings`, bindingOf(right));
  }

  async #make(path: string, object: object): Promise<void> {
    const { status, body } = await this.#api.create(path, object);
    if (status >= 300 && status !== 409) throw new Error(`rights cannot be granted: ${body['message']}`);
  }
}

function bindingOf({ name, account }: Right): object {
  return {
    metadata: { name },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name },
    subjects: [{ kind: 'ServiceAccount', name: account, namespace: SYSTEM }],
  };
}

/** All roles of the operator and the recorder, each with the account that a binding of the chart gives it to. */
function rightsOf(manifests: readonly Manifest[]): Right[] {
  const bindings = manifests.filter(({ kind }) => kind === 'ClusterRoleBinding' || kind === 'RoleBinding');
  const rights = bindings.flatMap(({ kind, metadata, roleRef, subjects }): Right[] => {
    const account = ACCOUNTS.find((one) => subjects?.[0]?.name === `crucible-${one}`);
    if (account === undefined) return [];
    const role = manifests.find((one) => one.kind === roleRef.kind && one.metadata.name === roleRef.name);
    if (role === undefined) throw new Error(`the chart binds ${roleRef.name}, which it does not have`);
    const own = metadata.namespace === RELEASE_NAMESPACE;
    const where = kind === 'ClusterRoleBinding' ? 'cluster' : own ? 'own' : 'evaluations';
    return [{ name: `faults-${where}-${account}`, account, where, rules: role['rules'] }];
  });
  if (rights.length < 4) throw new Error('the chart gives operator and recorder fewer roles than they had');
  return rights;
}
