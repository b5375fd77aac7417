import type { Attack } from '../attack.ts';

export const token: Attack = {
  id: 'token',
  rule: 9,
  title: 'there is no service-account token',
  tries: 'Looks where Kubernetes and clouds project tokens, and for anything that looks like one in the environment.',
  why: 'A token is an identity in the cluster, good from anywhere that reaches the API server.',
  proves: 'The sandbox has no credential to steal.',
  quick: true,
  method: {
    kind: 'inside',
    checks: ['secrets', 'names', 'environment'],
    source: String.raw`
@attack('token')
def token():
    places = [path for pattern in ('/var/run/secrets/**', '/run/secrets/**', '/etc/kubernetes/**') for path in glob.glob(pattern, recursive=True)]
    wanted = ('token', 'kubeconfig', '.dockerconfigjson', 'service-account.json')
    named = [path for root in ('/run', '/var/run', '/mnt', '/home', '/root', '/etc') for path in walk(root) if os.path.basename(path) in wanted]
    like = [name for name, value in os.environ.items() if value.startswith('eyJ') or 'BEGIN ' in value]
    return [
        check('secrets', not places, places[:3] or 'none'),
        check('names', not named, named[:3] or 'none'),
        check('environment', not like, like[:3] or 'none'),
    ]
`,
  },
};
