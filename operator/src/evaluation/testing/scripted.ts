import { pino } from 'pino';
import { afterEach, beforeEach } from 'vitest';
import { KubeClient } from '../../kube/index.ts';
import { ScriptedServer } from '../../kube/testing-server.ts';

export interface ScriptedApi {
  server: ScriptedServer;
  client: KubeClient;
}

/** An API server whose answers the test gives, and a client of it; new ones for each test of the file. */
export function scriptedApi(): ScriptedApi {
  const api = {} as ScriptedApi;
  beforeEach(async () => {
    api.server = await ScriptedServer.start();
    api.client = new KubeClient({ access: api.server.access(), logger: pino({ level: 'silent' }) });
  });
  afterEach(async () => {
    await api.client.close();
    await api.server.close();
  });
  return api;
}
