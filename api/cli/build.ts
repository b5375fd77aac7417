import { chmodSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { build, type Metafile } from 'esbuild';

// The plugin as one file that needs Node.js and nothing else: `npm pack` runs this, and so do the tests. Beside it the
// licences of all that is in it, as those ask for.

const REPOSITORY = resolve(import.meta.dirname, '../..');

export async function buildCli(outfile: string): Promise<string> {
  const { version } = JSON.parse(readFileSync(join(import.meta.dirname, 'package.json'), 'utf8')) as {
    version: string;
  };
  const { metafile } = await build({
    metafile: true,
    absWorkingDir: REPOSITORY,
    entryPoints: [join(import.meta.dirname, 'src/main.ts')],
    outfile,
    bundle: true,
    platform: 'node',
    target: 'node22',
    format: 'esm',
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: 'eof',
    logLevel: 'warning',
    define: { CRUCIBLE_CLI_VERSION: JSON.stringify(version) },
    banner: {
      js: "#!/usr/bin/env node\nimport { createRequire as createRequireForBundle } from 'node:module'; const require = createRequireForBundle(import.meta.url);",
    },
  });
  chmodSync(outfile, 0o755);
  writeFileSync(join(dirname(outfile), 'LICENSES.txt'), licences(metafile));
  return outfile;
}

/** Our own licence, and of every package that code was taken from its name, its version, and what it says. */
function licences({ inputs }: Metafile): string {
  const packages = new Set(Object.keys(inputs).flatMap((path) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path) ?? []));
  const texts = [...packages].sort().map((folder) => {
    const { name, version, license } = JSON.parse(readFileSync(join(REPOSITORY, folder, 'package.json'), 'utf8')) as Record<string, string>;
    const file = readdirSync(join(REPOSITORY, folder)).find((entry) => /^licen[cs]e/i.test(entry));
    if (file === undefined) throw new Error(`${folder} has no licence: its text has to come with the plugin`);
    return `${name} ${version} (${license})\n\n${readFileSync(join(REPOSITORY, folder, file), 'utf8').trim()}\n`;
  });
  const own = `kubectl-crucible (Apache-2.0)\n\n${readFileSync(join(REPOSITORY, 'LICENSE'), 'utf8').trim()}\n`;
  return [own, ...texts].join(`\n${'-'.repeat(80)}\n\n`);
}

if (import.meta.main) console.log(await buildCli(join(import.meta.dirname, 'dist/kubectl-crucible.js')));
