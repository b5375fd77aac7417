import type { Attack } from '../attack.ts';

export const hostSockets: Attack = {
  id: 'host-sockets',
  rule: 11,
  title: 'no socket of the host',
  tries: 'Looks at every file for a socket, and for the usual ones of container runtimes by name.',
  why: 'The socket of a container runtime is root on the node.',
  proves: 'There is no socket file in the sandbox.',
  quick: false,
  method: {
    kind: 'inside',
    checks: ['files', 'runtimes'],
    source: String.raw`
@attack('host-sockets')
def host_sockets():
    found = [path for path, mode in modes() if stat.S_ISSOCK(mode)]
    usual = [path for path in (
        '/var/run/docker.sock', '/run/docker.sock', '/run/containerd/containerd.sock', '/run/crio/crio.sock',
        '/run/podman/podman.sock', '/var/run/cri-dockerd.sock', '/run/dbus/system_bus_socket', '/run/systemd/private',
    ) if os.path.exists(path)]
    return [check('files', not found, found[:3] or 'none'), check('runtimes', not usual, usual[:3] or 'none')]
`,
  },
};
