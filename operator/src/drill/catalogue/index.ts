import type { Attack } from '../attack.ts';
import { apiServer } from './api-server.ts';
import { artifacts } from './artifacts.ts';
import { capabilities } from './capabilities.ts';
import { deadline } from './deadline.ts';
import { devices } from './devices.ts';
import { disk, mounts } from './disk.ts';
import { dns, resolver } from './dns.ts';
import { egress, otherProtocols } from './egress.ts';
import { environment } from './environment.ts';
import { foreignPolicies } from './foreign-policies.ts';
import { hostSockets } from './host-sockets.ts';
import { identity } from './identity.ts';
import { kernelFiles } from './kernel-files.ts';
import { kernel, missingClass } from './kernel.ts';
import { forks, memory, spinners } from './limits.ts';
import { metadata } from './metadata.ts';
import { noNewPrivileges } from './no-new-privileges.ts';
import { nodeServices } from './node-services.ts';
import { flood, frames, terminationMessage } from './output.ts';
import { peer, peerIngress } from './peer.ts';
import { processes } from './processes.ts';
import { readOnlyRoot } from './read-only-root.ts';
import { seccomp } from './seccomp.ts';
import { smuggling } from './smuggling.ts';
import { sockets } from './sockets.ts';
import { startWindow } from './start-window.ts';
import { syscalls } from './syscalls.ts';
import { token } from './token.ts';

/** Every attack, in the order of the contract's rules. */
export const CATALOGUE: readonly Attack[] = [
  identity,
  noNewPrivileges,
  capabilities,
  seccomp,
  syscalls,
  sockets,
  readOnlyRoot,
  mounts,
  token,
  environment,
  hostSockets,
  kernelFiles,
  devices,
  processes,
  egress,
  otherProtocols,
  dns,
  resolver,
  metadata,
  apiServer,
  nodeServices,
  peer,
  peerIngress,
  startWindow,
  memory,
  forks,
  spinners,
  disk,
  flood,
  frames,
  terminationMessage,
  artifacts,
  deadline,
  smuggling,
  kernel,
  missingClass,
  foreignPolicies,
];

export const QUICK: readonly Attack[] = CATALOGUE.filter(({ quick }) => quick);
