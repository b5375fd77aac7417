import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';

// Objects as GitOps tools see them: deploy/gitops/check runs kstatus and the health check for Argo CD over these files.
// CRUCIBLE_UPDATE=1 writes them anew.

const folder = join(import.meta.dirname, '../../../../deploy/gitops/check/testdata');
const text = (object: object): string => `${JSON.stringify(object, null, 2)}\n`;

/** Tests that testdata has these as they are written today, and of those that are meant no others. */
export function inTestdata(objects: Readonly<Record<string, () => object>>, isMeant: (name: string) => boolean): void {
  it.each(Object.entries(objects))('%s is in testdata as it is written today', (name, make) => {
    const file = join(folder, `${name}.json`);
    if (process.env['CRUCIBLE_UPDATE'] === '1') writeFileSync(file, text(make()));
    expect(readFileSync(file, 'utf8')).toBe(text(make()));
  });
  it('testdata has no others', () => {
    const found = readdirSync(folder).map((name) => name.replace(/\.json$/, ''));
    expect(found.filter(isMeant).sort()).toEqual(Object.keys(objects).sort());
  });
}
