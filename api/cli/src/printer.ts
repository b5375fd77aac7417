import { once } from 'node:events';
import { VisibleStream, visible } from './text.ts';

const NEWLINE = 0x0a;

/** The part of a process's stream that is needed here. */
export interface Sink extends NodeJS.EventEmitter {
  write(data: string | Uint8Array): boolean;
  readonly isTTY?: boolean;
}

/** Whether something is on the line already: two streams on one terminal have one cursor. */
export interface Cursor {
  lineStart: boolean;
}

/** One of the process's two outputs: what we say, and what the code under evaluation wrote. */
export class Printer {
  readonly #sink: Sink;
  readonly #cursor: Cursor;
  /** Open while output of a run is shown on a terminal. */
  readonly #shown = new Map<string, VisibleStream>();

  constructor(sink: Sink, cursor: Cursor = { lineStart: true }) {
    this.#sink = sink;
    this.#cursor = cursor;
  }

  get isTerminal(): boolean {
    return this.#sink.isTTY === true;
  }

  /** Ours. Begins on a line of its own, whatever the code left behind. */
  line(text: string): void {
    if (!this.#cursor.lineStart) this.#sink.write('\n');
    this.#cursor.lineStart = true;
    this.#sink.write(`${visible(text)}\n`);
  }

  /** Theirs: byte for byte into a file or pipe, made harmless on a terminal. `source` keeps streams apart. */
  async output(source: string, data: Uint8Array): Promise<void> {
    if (!this.isTerminal) {
      this.#cursor.lineStart = data.at(-1) === NEWLINE;
      return await this.bytes(data);
    }
    let stream = this.#shown.get(source);
    if (stream === undefined) this.#shown.set(source, (stream = new VisibleStream()));
    this.#text(stream.push(data));
  }

  endOutput(source: string): void {
    this.#text(this.#shown.get(source)?.end() ?? '');
    this.#shown.delete(source);
  }

  async bytes(data: Uint8Array): Promise<void> {
    if (!this.#sink.write(data)) await once(this.#sink, 'drain');
  }

  #text(text: string): void {
    if (text === '') return;
    this.#cursor.lineStart = text.endsWith('\n');
    this.#sink.write(text);
  }
}
