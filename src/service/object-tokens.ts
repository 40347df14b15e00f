/** The ciphertexts in an encrypted object, by the paths of its fields. */

/** Every text that stands where one of `paths` leads. */
export function textsAt(object: unknown, paths: readonly string[]): string[] {
  const found: string[] = [];
  for (const path of paths) {
    // `cards[].pan` is cards, each, pan.
    const steps = path.split('.').flatMap((name) => name.split(/(?=\[\])/));
    collect(object, steps, 0, found);
  }
  return found;
}

function collect(value: unknown, steps: readonly string[], at: number, found: string[]): void {
  if (at === steps.length) {
    if (typeof value === 'string') {
      found.push(value);
    }
    return;
  }
  const step = steps[at]!;
  if (step === '[]') {
    if (Array.isArray(value)) {
      for (const element of value) {
        collect(element, steps, at + 1, found);
      }
    }
  } else if (typeof value === 'object' && value !== null && Object.hasOwn(value, step)) {
    collect((value as Record<string, unknown>)[step], steps, at + 1, found);
  }
}
