import * as z from 'zod';

// Answers that are not JSON. The schemas only describe: what is sent goes out as it is.

export const binary = (type: string, description: string) => ({
  description,
  content: { [type]: { schema: z.string().meta({ format: 'binary' }) } },
});

export const eventStream = {
  description: 'Server-sent events until the client or this replica goes away; come back with Last-Event-ID.',
  content: { 'text/event-stream': { schema: z.string() } },
};

export const rangeHeaders = z.object({
  range: z.string().max(200).optional().describe('One range of bytes (RFC 9110); several are answered with the whole.'),
  'if-range': z.string().max(200).optional(),
  'if-none-match': z.string().max(2000).optional(),
});

export const lastEventIdHeader = z.object({
  'last-event-id': z.string().max(200).optional().describe('The id of the last event that was seen: goes on after it.'),
});
