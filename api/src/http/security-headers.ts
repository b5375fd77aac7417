import { ServerResponse, type IncomingMessage } from 'node:http';
import helmet from 'helmet';

/** Nothing but our own files: no inline script or style, nothing from elsewhere, in nobody's frame. */
const CONTENT_SECURITY = {
  defaultSrc: ["'none'"], scriptSrc: ["'self'"], styleSrc: ["'self'"], imgSrc: ["'self'", 'data:'], fontSrc: ["'self'"],
  connectSrc: ["'self'"], manifestSrc: ["'self'"], baseUri: ["'none'"], formAction: ["'self'"], frameAncestors: ["'none'"],
};

/** What helmet says, which is the same for every answer: it is asked once. */
export function securityHeaders(): Record<string, string> {
  const answer = new ServerResponse({ method: 'GET' } as IncomingMessage);
  const fail = (error?: unknown): void => {
    if (error !== undefined) throw error as Error;
  };
  helmet({ contentSecurityPolicy: { useDefaults: false, directives: CONTENT_SECURITY }, referrerPolicy: { policy: 'no-referrer' } })(answer.req, answer, fail);
  return answer.getHeaders() as Record<string, string>;
}
