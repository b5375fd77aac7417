import { describe, expect, test } from 'vitest';
import { readConfig } from '../../operator/src/recorder/config.ts';
import { renderChart } from './chart.ts';
import type { Manifest } from './chart.ts';

const S3 = {
  type: 's3',
  's3.bucket': 'artifacts',
  's3.prefix': 'crucible/one',
  's3.region': 'eu-central-1',
  's3.endpoint': 'https://s3.storage:9000',
  's3.existingSecret': 'store-keys',
  's3.port': '9000',
  's3.cidrs': '{192.0.2.0/24}',
};

const render = (values: Record<string, string>): Manifest[] =>
  renderChart('--set', Object.entries(values).map(([name, value]) => `fileStore.${name}=${value}`).join(','));

function recorder(manifests: readonly Manifest[]): any {
  const found = manifests.find(({ kind, metadata }) => kind === 'Deployment' && metadata.name.includes('recorder'));
  return found?.['spec'].template.spec;
}

/** What the recorder itself makes of the environment that the chart gives it, so that the two cannot drift apart. */
function configOf(manifests: readonly Manifest[]) {
  const env = recorder(manifests).containers[0].env as { name: string; value?: string }[];
  const given = Object.fromEntries(env.flatMap(({ name, value }) => (value === undefined ? [] : [[name, value]])));
  return readConfig({ ...given, CRUCIBLE_DATABASE_URL: 'postgresql://x', CRUCIBLE_REDIS_URL: '' }).storage;
}

const egress = (manifests: readonly Manifest[]): any[] =>
  manifests.find(({ kind, metadata }) => kind === 'NetworkPolicy' && metadata.name.includes('recorder'))?.['spec'].egress;

describe('the file store in the chart', () => {
  test('is the directory on the volume, keeps everything, and opens no way out', () => {
    const manifests = renderChart();
    expect(configOf(manifests)).toMatchObject({
      location: { type: 'directory', directory: '/data/files' },
      maxRunBytes: 8_388_608,
      maxRunFiles: 1000,
      maxNamespaceBytes: undefined,
      orphanGraceHours: 24,
      retentionDays: { output: 0, artifacts: 0, records: 0 },
    });
    expect(JSON.stringify(recorder(manifests))).not.toContain('file-store');
    expect(egress(render(S3))).toHaveLength(egress(manifests).length + 1);
  });

  test.each([
    ['on a volume that all may write', 'recorder.persistence.accessModes={ReadWriteMany}'],
    ['in S3, each with a spool of its own', `recorder.persistence.enabled=false,${Object.entries(S3).map(([name, value]) => `fileStore.${name}=${value}`).join(',')}`],
  ])('is shared by several recorders %s', (_, settings) => {
    const found = renderChart('--set', `recorder.replicas=2,${settings}`).find(({ kind, metadata }) => kind === 'Deployment' && metadata.name.includes('recorder'));
    expect(found?.['spec']).toMatchObject({ replicas: 2, strategy: { type: 'RollingUpdate' } });
  });

  test('in S3: keys as files, the endpoint reachable, nothing else changed', () => {
    const manifests = render({ ...S3, 'quota.namespaceBytes': '107374182400', 'retention.outputDays': '30', 's3.caKey': 'ca.crt' });
    const config = configOf(manifests);
    expect(config.location).toEqual({
      type: 's3', bucket: 'artifacts', prefix: 'crucible/one', region: 'eu-central-1', endpoint: 'https://s3.storage:9000',
    });
    expect(config).toMatchObject({ maxNamespaceBytes: 107_374_182_400, retentionDays: { output: 30, artifacts: 0 } });
    expect(egress(manifests)).toContainEqual({ ports: [{ port: 9000 }], to: [{ ipBlock: { cidr: '192.0.2.0/24' } }] });
    const pod = recorder(manifests);
    expect(pod.volumes).toContainEqual({ name: 'file-store', secret: { secretName: 'store-keys', defaultMode: 0o440 } });
    const [container] = pod.containers;
    expect(container.volumeMounts).toContainEqual({ name: 'file-store', mountPath: '/etc/crucible/file-store', readOnly: true });
    expect(container.env).toContainEqual({ name: 'NODE_EXTRA_CA_CERTS', value: '/etc/crucible/file-store/ca.crt' });
  });

  test.each([
    ['a type that is not known', { type: 'ftp' }, /type/],
    ['S3 without a bucket', { ...S3, 's3.bucket': '' }, /name the bucket in fileStore.s3.bucket/],
    ['S3 without keys', { ...S3, 's3.existingSecret': '' }, /fileStore.s3.existingSecret/],
    ['a password in the endpoint', { ...S3, 's3.endpoint': 'https://u:p@s3' }, /endpoint/],
    ['more than one log can carry', { 'quota.runBytes': '8388609' }, /runBytes/],
    ['a sweep that would not wait', { orphanGraceHours: '1' }, /orphanGraceHours/],
  ])('refuses %s', (_, values, message) => {
    expect(() => render(values)).toThrow(message);
  });
});
