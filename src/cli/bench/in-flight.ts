/** `count` operations, `width` of them under way at any time. After one that rejects, none is begun. */
export async function inFlight(width: number, count: number, operation: () => Promise<unknown>): Promise<void> {
  let left = count;
  const lane = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      await operation();
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(width, count) }, lane));
  } finally {
    left = 0;
  }
}
