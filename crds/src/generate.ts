import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, relative, resolve } from 'node:path';
import { stringify } from 'yaml';
import { GROUP } from './constants.ts';
import { RESOURCE_DEFINITIONS, customResourceDefinition } from './crd.ts';

// node crds/src/generate.ts          writes the CRDs into the chart
// node crds/src/generate.ts --check  names the files that are stale and exits 1

const HEADER =
  '# Generated from the zod schemas in crds/src by crds/src/generate.ts. Do not edit: change the schema and run `make generate`.\n';
const REPOSITORY = resolve(import.meta.dirname, '../..');
const TARGET = resolve(REPOSITORY, 'charts/crucible/crds');

export function generatedFiles(): Map<string, string> {
  return new Map(
    RESOURCE_DEFINITIONS.map((definition) => [
      resolve(TARGET, `${definition.plural}.${GROUP}.yaml`),
      // YAML 1.1, which is what kubectl reads: it quotes a field named `on`. No anchors, so that it reads from top to bottom.
      HEADER +
        stringify(customResourceDefinition(definition), { version: '1.1', lineWidth: 0, aliasDuplicateObjects: false }),
    ]),
  );
}

export async function staleFiles(files: ReadonlyMap<string, string>): Promise<string[]> {
  const current = await Promise.all([...files.keys()].map((path) => readFile(path, 'utf8').catch(() => '')));
  return [...files].filter(([, text], index) => text !== current[index]).map(([path]) => relative(REPOSITORY, path));
}

async function main(check: boolean): Promise<void> {
  const files = generatedFiles();
  const stale = await staleFiles(files);
  if (check) {
    if (stale.length === 0) return;
    console.error(`stale, run \`make generate\`:\n${stale.join('\n')}`);
    process.exitCode = 1;
    return;
  }
  for (const [path, text] of files) {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
  }
  if (stale.length > 0) console.log(stale.join('\n'));
}

if (import.meta.main) await main(process.argv.includes('--check'));
