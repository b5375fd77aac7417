import { chmodSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

// The plugin as one file that needs Node.js and nothing else: `npm pack` runs this, and so do the tests.

export async function buildCli(outfile: string): Promise<string> {
  const { version } = JSON.parse(readFileSync(join(import.meta.dirname, 'package.json'), 'utf8')) as {
    version: string;
  };
  await build({
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
  return outfile;
}

if (import.meta.main) console.log(await buildCli(join(import.meta.dirname, 'dist/kubectl-crucible.js')));
