import * as z from 'zod';
import { unavailable } from '../problems.ts';
import { problems } from '../schemas/common.ts';
import type { Routes } from './route.ts';

const ok = z.object({ status: z.literal('ok') });

export const healthRoutes: Routes = (app, services) => {
  app.get('/healthz', {
    config: { access: 'public' },
    schema: { operationId: 'isAlive', tags: ['health'], summary: 'Does this process run?', response: { 200: ok } },
  }, () => ({ status: 'ok' as const }));

  app.get('/readyz', {
    config: { access: 'public' },
    schema: { operationId: 'isReady', tags: ['health'], summary: 'Can it serve?', response: { 200: ok, ...problems() } },
  }, () => {
    const reason = services.notReady();
    if (reason !== undefined) throw unavailable(reason);
    return { status: 'ok' as const };
  });
};
