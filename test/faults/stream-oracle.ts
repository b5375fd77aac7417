import { EVENT_STREAM, connectRedis, parseCloudEvent, positionOf } from '@crucible/storage';
import type { Database } from '@crucible/storage';

/** (e), in Redis: every event that Postgres has, once, at its position; and no hint that something finished is pending. */
export async function streamBreaches(url: string, record: Database): Promise<string[]> {
  const redis = connectRedis({ url });
  try {
    await new Promise<void>((resolve, reject) => {
      redis.once('ready', resolve);
      setTimeout(() => reject(new Error('Redis does not answer')), 5_000).unref();
    });
    const { rows } = await record.query<{ id: string; position: number | null }>(
      `SELECT evaluation_uid || '/' || seq AS id, position FROM crucible.events ORDER BY position`,
    );
    const entries = await redis.xrange(EVENT_STREAM, '-', '+');
    const streamed = entries.map(([id, fields]) => `${positionOf(id)} ${parseCloudEvent(fields[1] ?? '').id}`);
    const recorded = rows.map(({ id, position }) => `${position} ${id}`);
    const breaches = streamed.join() === recorded.join() ? [] : [`(e) the stream has ${streamed.length} events, the record ${recorded.length}, or others`];
    const finished = await record.query<{ uid: string }>('SELECT uid FROM crucible.evaluations WHERE finished_at IS NOT NULL');
    for (const { uid } of finished.rows) if ((await redis.exists(`pending:${uid}`)) === 1) breaches.push(`(e) ${uid} has finished and is called pending`);
    return breaches;
  } catch (error) {
    return [`(e) the stream cannot be read: ${String(error)}`];
  } finally {
    redis.disconnect();
  }
}
