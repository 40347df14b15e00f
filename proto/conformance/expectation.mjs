// What cases say in short, and whether an answer is what a case wants.
import { isDeepStrictEqual } from 'node:util';
import { shown } from './acting-agent.mjs';

/** A case with what is long in it written out: `{ "$repeat": [TEXT, TIMES] }`, `{ "$join": [TEXT…] }`, `{ "$list": [ITEM, TIMES] }`. */
export function expanded(value) {
  if (Array.isArray(value)) {
    return value.map(expanded);
  }
  if (value === null || typeof value !== 'object') {
    return value;
  }
  if (Array.isArray(value.$repeat)) {
    return value.$repeat[0].repeat(value.$repeat[1]);
  }
  if (Array.isArray(value.$join)) {
    return value.$join.map(expanded).join('');
  }
  if (Array.isArray(value.$list)) {
    return Array.from({ length: value.$list[1] }, () => expanded(value.$list[0]));
  }
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, expanded(each)]));
}

/** Why the answer is not what is wanted; undefined when it is. */
export function mismatch(answer, wanted) {
  if (wanted.code !== undefined) {
    return errorMismatch(answer, wanted);
  }
  if (!answer.ok) {
    return `failed with ${shown(answer.error)}, and should not have`;
  }
  if (wanted.results !== undefined) {
    return manyMismatch(answer.value, wanted.results);
  }
  if (wanted.length !== undefined) {
    return answer.value?.length === wanted.length
      ? undefined
      : `gave ${answer.value?.length} characters, not ${wanted.length}`;
  }
  if (wanted.begins !== undefined) {
    return String(answer.value).startsWith(wanted.begins) ? undefined : `gave ${shown(answer.value)}`;
  }
  if (wanted.has !== undefined) {
    const found = Object.fromEntries(Object.keys(wanted.has).map((name) => [name, answer.value?.[name]]));
    return isDeepStrictEqual(found, wanted.has)
      ? undefined
      : `gave ${shown(answer.value)}, without ${shown(wanted.has)}`;
  }
  return isDeepStrictEqual(answer.value, wanted.value)
    ? undefined
    : `gave ${shown(answer.value)}, not ${shown(wanted.value)}`;
}

function manyMismatch(values, wanted) {
  if (!Array.isArray(values) || values.length !== wanted.length) {
    return `gave ${shown(values)}, not ${wanted.length} results`;
  }
  for (const [i, each] of wanted.entries()) {
    const wrong = mismatch(values[i], each);
    if (wrong !== undefined) {
      return `result ${i} ${wrong}`;
    }
  }
  return undefined;
}

function errorMismatch(answer, { code, retryable, retryAfterMs, incident }) {
  const codes = [code].flat();
  if (answer.ok || !codes.includes(answer.error?.code)) {
    return `gave ${shown(answer.ok ? answer.value : answer.error)}, not ${codes.join(' or ')}`;
  }
  for (const [name, wanted] of Object.entries({ retryable, retryAfterMs, incident })) {
    if (wanted !== undefined && answer.error[name] !== wanted) {
      return `gave an error whose ${name} is ${shown(answer.error[name])}, not ${shown(wanted)}`;
    }
  }
  return undefined;
}
