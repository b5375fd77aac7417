import { explainFindings } from '@crucible/operator/sandbox';
import { DrillRepository, listDrills } from '@crucible/storage';
import * as z from 'zod';
import type { Caller } from '../auth/authenticator.ts';
import { badRequestOn } from '../http/bad-request.ts';
import { forbidden, notFound } from '../problems.ts';
import { cursor, page, problems, timestamp, uid } from '../schemas/common.ts';
import type { Routes } from './route.ts';

const outcome = z.enum(['held', 'broken', 'open']).describe('open: neither held nor broken could be shown.');
const kind = z.enum(['quick', 'full']).describe('quick decides about admission; full is every attack.');
const row = {
  id: uid, kind, runtimeClass: z.string().nullable().describe('null: the cluster’s default runtime.'),
  trigger: z.string().describe('Why it was run.'), outcome,
  held: z.int().describe('Rules that held.'), broken: z.int(), open: z.int(), startedAt: timestamp, finishedAt: timestamp,
};
const evidence = z.string().describe('What was seen. Partly printed by a sandbox: text, never to be interpreted.');
const drillRow = z.object(row).meta({ id: 'DrillSummary' });
const drillDetail = z
  .object({
    ...row,
    rules: z.array(z.object({
      rule: z.int().describe('Of the sandbox contract, docs/drill.md.'), title: z.string(), outcome, evidence,
      attacks: z.array(z.object({ attack: z.string(), title: z.string(), tries: z.string(), outcome, evidence })).readonly(),
    })),
  })
  .meta({ id: 'Drill', description: 'Rule by rule: each as bad as the worst of its attacks.' });
const listQuery = z.strictObject({
  runtimeClass: z.string().max(253).optional().describe('Name of a RuntimeClass; empty for the cluster’s default runtime.'),
  kind: kind.optional(), outcome: outcome.optional(), limit: z.coerce.number().int().min(1).max(200).default(50), cursor,
});

export const drillRoutes: Routes = (app, { database, authorizer }) => {
  const config = { access: 'caller', limit: 'read' } as const;

  // They are about the cluster, and tell where it is weak: whoever may see the cluster's SecurityDrills may see them.
  const mustMay = async (caller: Caller, verb: 'list' | 'get'): Promise<void> => {
    if (await authorizer.may(caller, { verb, namespace: '', resource: 'securitydrills' })) return;
    throw forbidden(`you may not ${verb} securitydrills: ask for the ClusterRole crucible-drill-viewer`);
  };

  app.get('/api/drills', {
    config,
    schema: {
      operationId: 'listDrills', tags: ['drills'], summary: 'Drills of each RuntimeClass, newest first',
      description: 'Also those that nobody asked for. Needs the right to list securitydrills in the cluster.',
      querystring: listQuery, response: { 200: page(drillRow), ...problems(401, 403) },
    },
  }, async ({ caller, query: { cursor, limit, runtimeClass, kind, outcome } }) => {
    await mustMay(caller, 'list');
    const filter = { limit, ...(runtimeClass !== undefined && { runtimeClass }), ...(kind && { kind }), ...(outcome && { outcome }) };
    return await badRequestOn(RangeError, () => listDrills(database, { ...filter, ...(cursor && { cursor }) }));
  });

  app.get('/api/drills/:id', {
    config,
    schema: {
      operationId: 'getDrill', tags: ['drills'], summary: 'The report of one drill, with evidence',
      description: 'Needs the right to get securitydrills in the cluster.',
      params: z.object({ id: uid.describe('Of the drill, as in the list.') }), response: { 200: drillDetail, ...problems(401, 403, 404) },
    },
  }, async ({ caller, params: { id } }) => {
    await mustMay(caller, 'get');
    const found = await new DrillRepository(database).get(id);
    if (found === undefined) throw notFound('drill');
    const { findings, ...drill } = found;
    return { ...drill, rules: explainFindings(findings) };
  });
};
