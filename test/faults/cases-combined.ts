import {
  conflictStorm,
  inTurn,
  lyingAnswers,
  postgresKilled,
  terminalUpdateLost,
  together,
} from './cases.ts';
import type { FaultCase } from './cases.ts';
import { podFate, rightsRevoked } from './cases-pods.ts';
import { apiServerKilled, clockJumps, diskFull, etcdStopped, poolExhausted, staleLists } from './cases-servers.ts';

/** Several faults in one run each, which CI has time for; the soak runs them with other seeds. */
export const COMBINATIONS: Readonly<Record<string, () => FaultCase>> = {
  '3 and 12: errors after writes that went through, and a full disk': () => together(lyingAnswers(), diskFull(3000)),
  "3, 4 and 13: a conflict storm, the pod's terminal update is lost, and clocks jump": () =>
    together(conflictStorm(), terminalUpdateLost(), clockJumps()),
  '6 and 12: old lists after a restart and a name that is used again; Postgres has no connection left, then is killed': () =>
    inTurn(staleLists('fails'), poolExhausted(2000), postgresKilled(1, 500)),
  '7, 9 and 10: a pod is evicted, rights are revoked, etcd stands still, the API server is killed': () =>
    inTurn(podFate('evicted', 'running', 'fails'), rightsRevoked(3000), etcdStopped(3000), apiServerKilled(1)),
};
