import swagger from '@fastify/swagger';
import { createJsonSchemaTransform, jsonSchemaTransformObject } from 'fastify-type-provider-zod';
import type { App } from './routes/route.ts';
import { problems } from './schemas/common.ts';
import { CONTRACT_VERSION } from './version.ts';
import * as z from 'zod';

const toJsonSchema = createJsonSchemaTransform({ skipList: [] });

const DESCRIPTION = `Everything that Crucible knows of evaluations, under the permissions of the cluster: a bearer token that its API server
accepts, and its RBAC. Errors are RFC 9457 problem documents. Lists are paged by cursor. Times are RFC 3339, sizes are bytes.`;

/** The contract, generated from the routes' own schemas. Has to come before the routes. */
export async function describeContract(app: App): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Crucible', version: CONTRACT_VERSION, description: DESCRIPTION, license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
      servers: [{ url: '/' }],
      security: [{ bearer: [] }, { session: [] }],
      components: {
        securitySchemes: {
          bearer: { type: 'http', scheme: 'bearer', description: 'A token that the cluster’s API server accepts.' },
          session: { type: 'apiKey', in: 'cookie', name: 'crucible_session', description: 'From POST /api/session; changes need x-csrf-token too.' },
        },
      },
    },
    transform: (document) => {
      const { schema, url } = toJsonSchema(document as never);
      const { access, limit } = document.route.config ?? {};
      const rule = { 'x-crucible-access': access, ...(limit && { 'x-crucible-limit': limit }), ...(access === 'public' && { security: [] }) };
      return { schema: { ...schema, ...rule } as never, url };
    },
    transformObject: (document) => tidy(withoutUnused(jsonSchemaTransformObject(document))) as never,
  });
  app.get('/api/openapi.yaml', {
    config: { access: 'caller', limit: 'read' },
    schema: {
      operationId: 'getContract', tags: ['catalog'], summary: 'This contract',
      response: { 200: { description: 'OpenAPI 3.1.', content: { 'application/yaml': { schema: z.record(z.string(), z.unknown()) } } }, ...problems(401) },
    },
  }, async (_request, reply) => reply.type('application/yaml').send(app.swagger({ yaml: true }) as never));
}

/** What nothing refers to goes: every component is made twice, for what comes in and for what goes out. */
function withoutUnused(document: { components?: { schemas?: Record<string, unknown> }; paths?: object }): object {
  const all = document.components?.schemas ?? {};
  const used = new Set<string>();
  const follow = (value: unknown): void => {
    for (const [, name = ''] of JSON.stringify(value).matchAll(/"#\/components\/schemas\/([^"]+)"/g)) {
      if (used.has(name)) continue;
      used.add(name);
      follow(all[name]);
    }
  };
  follow(document.paths ?? {});
  const schemas = Object.fromEntries(Object.entries(all).filter(([name]) => used.has(name)));
  return { ...document, components: { ...document.components, schemas } };
}

/** What is for the API server alone goes, and the rest of a path gets a name. */
function tidy(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(tidy);
  if (value === null || typeof value !== 'object') return value;
  const entries = Object.entries(value).filter(([key]) => !key.startsWith('x-kubernetes-'));
  const named = entries.map(([key, child]) => [key.replace('/artifacts/{*}', '/artifacts/{path}'), key === 'name' && child === '*' ? 'path' : tidy(child)]);
  return Object.fromEntries(named);
}
