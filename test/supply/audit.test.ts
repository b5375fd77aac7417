import { expect, test } from 'vitest';
import { goDatabase, goFindings, judge, npmFindings } from '../../deploy/audit/audit.ts';

const advisory = (severity: string, id = 'GHSA-1'): object => ({ url: `https://github.com/advisories/${id}`, title: 'A hole', severity });

test('npm: what weighs is found once, what another package brings is not counted twice', () => {
  const report = { vulnerabilities: { a: { via: [advisory('critical'), advisory('low', 'GHSA-2')] }, b: { via: ['a'] }, c: { via: [advisory('moderate', 'GHSA-3')] } } };
  expect(npmFindings(JSON.stringify(report))).toEqual([{ id: 'GHSA-1', where: 'a', title: 'A hole' }]);
  expect(npmFindings(JSON.stringify({ vulnerabilities: {} }))).toEqual([]);
});

test.each([
  ['{"message":"405 Method Not Allowed","statusCode":405}', /405/],
  ['{"error":{"summary":"no lock file"}}', /no lock file/],
  ['{}', /no report/],
  ['<html>', /cannot|nothing that can be read/],
])('npm: an answer without a report is a reason, never a pass: %s', (output, reason) => {
  expect(npmFindings(output)).toMatch(reason);
});

test('go: what is called is found, what is merely required is not', () => {
  const osv = { osv: { id: 'GO-1', summary: 'A hole' } };
  const called = { finding: { osv: 'GO-1', trace: [{ module: 'm', function: 'f' }] } };
  const required = { finding: { osv: 'GO-2', trace: [{ module: 'n' }] } };
  const output = [{ config: {} }, osv, required, called, called].map((message) => JSON.stringify(message, null, 2)).join('\n');
  expect(goFindings(output)).toEqual([{ id: 'GO-1', where: 'm', title: 'A hole' }]);
  expect(goFindings('')).toEqual([]);
});

test('an allowed one is allowed until its day', () => {
  const findings = [{ id: 'GO-1', where: 'm', title: '' }, { id: 'GO-2', where: 'm', title: '' }];
  const allowed = [{ id: 'GO-1', reason: 'not reachable', until: '2026-12-31' }];
  expect(judge(findings, allowed, '2026-12-31')).toMatchObject({ findings: [{ id: 'GO-2' }], allowed: [{ id: 'GO-1' }] });
  expect(judge(findings, allowed, '2027-01-01').findings).toHaveLength(2);
});

test('go: without leave to ask anybody only a database on this machine is read', () => {
  expect(goDatabase('file:///srv/vulndb', false)).toEqual({ url: 'file:///srv/vulndb' });
  for (const configured of [undefined, 'https://vuln.example.com'])
    expect(goDatabase(configured, false)).toEqual({ problem: expect.stringMatching(/GOVULNDB.*make audit/) as string });
  expect(goDatabase(undefined, true)).toEqual({ url: 'https://vuln.go.dev' });
  expect(goDatabase('https://vuln.example.com', true)).toEqual({ url: 'https://vuln.example.com' });
});
