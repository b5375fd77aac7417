/** One after the other in one buffer; without copying where they are so already. */
export function joined(parts: readonly Uint8Array[]): Buffer {
  const [first] = parts;
  let end = first?.byteOffset ?? 0;
  const adjacent = parts.every(({ buffer, byteOffset, length }) => {
    const follows = buffer === first!.buffer && byteOffset === end;
    end += length;
    return follows;
  });
  return first !== undefined && adjacent ? Buffer.from(first.buffer, first.byteOffset, end - first.byteOffset) : Buffer.concat(parts);
}
