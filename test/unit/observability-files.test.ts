/** Dashboard, alerts and the page on observability: that they name the metrics there are, and all of them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { METRICS, type MetricFamily } from '../../src/telemetry/metrics.ts';
import { ROOT } from '../support/source-copy.ts';

const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8');
const FAMILIES = new Map(Object.entries(METRICS) as [string, MetricFamily][]);

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[];
}
interface Alert {
  readonly alert: string;
  readonly expr: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly description: string };
}

const dashboard = JSON.parse(read('deploy/observability/dashboard.json')) as {
  readonly schemaVersion: number;
  readonly uid: string;
  readonly templating: { readonly list: readonly { readonly name: string; readonly query: string }[] };
  readonly panels: readonly Panel[];
};
const { groups } = parse(read('deploy/observability/alerts.yaml')) as {
  readonly groups: readonly { readonly rules: readonly Alert[] }[];
};
const alerts = groups.flatMap(({ rules }) => rules);
const page = read('docs/observability.md');

/** Names of metrics in an expression, with the labels that it asks for. */
function asked(expression: string): { family: string; labels: string[] }[] {
  return [...expression.matchAll(/\b((?:dekd|process)_[a-z_]+)(?:\{([^}]*)\})?/g)].map(([, name, matchers = '']) => ({
    family: FAMILIES.has(name!) ? name! : name!.replace(/_(bucket|sum|count)$/, ''),
    labels: [...matchers.matchAll(/([a-z_]+)\s*(?:=~|!~|!=|=)/g)].map(([, label]) => label!),
  }));
}

/** What an expression asks for that no agent gives. */
function unknown(expression: string): string[] {
  return asked(expression).flatMap(({ family, labels }) => {
    const known = FAMILIES.get(family);
    const given = new Set(['instance', 'job', 'le', ...(known?.labels ?? [])]);
    return known === undefined
      ? [family]
      : labels.filter((label) => !given.has(label)).map((label) => `${family}.${label}`);
  });
}

describe('the dashboard', () => {
  const expressions = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));

  it('asks for nothing that agents do not give', () => {
    expect(expressions.length).toBeGreaterThan(40);
    expect(expressions.flatMap(unknown)).toEqual([]);
  });

  it('shows every family', () => {
    const shown = new Set(expressions.flatMap(asked).map(({ family }) => family));
    expect([...FAMILIES.keys()].filter((name) => !shown.has(name))).toEqual([]);
  });

  it('has panels with ids and titles of their own that do not lie on each other', () => {
    const { panels, schemaVersion, uid, templating } = dashboard;
    expect([schemaVersion >= 36, uid]).toEqual([true, 'dekd']);
    expect(templating.list.map(({ name }) => name)).toEqual(['datasource', 'instance']);
    expect(templating.list.flatMap(({ query }) => unknown(query))).toEqual([]);
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    expect(new Set(panels.map(({ title }) => title)).size).toBe(panels.length);
    const cells = new Set<string>();
    for (const { gridPos, title } of panels) {
      expect(gridPos.x + gridPos.w, title).toBeLessThanOrEqual(24);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          expect(cells.has(`${x},${y}`), title).toBe(false);
          cells.add(`${x},${y}`);
        }
      }
    }
  });
});

describe('the alerts', () => {
  it('ask for nothing that agents do not give, and say what is wrong, where, and how bad that is', () => {
    expect(alerts.length).toBeGreaterThan(10);
    for (const { alert, expr, labels, annotations } of alerts) {
      expect(unknown(expr), alert).toEqual([]);
      expect(['critical', 'warning', 'info'], alert).toContain(labels.severity);
      expect(annotations.summary, alert).toMatch(/\.$/);
      expect(annotations.description.length, alert).toBeGreaterThan(20);
    }
    expect(new Set(alerts.map(({ alert }) => alert)).size).toBe(alerts.length);
  });

  it('ask for outcomes that there are', async () => {
    const { ERROR_CODES } = await import('../../src/errors.ts');
    const named = alerts.flatMap(({ expr }) =>
      [...expr.matchAll(/outcome(?:=~|!~|!=|=)"([^"]+)"/g)].map(([, text]) => text!),
    );
    const codes = named.flatMap((text) => text.split('|')).filter((text) => text !== 'ok');
    expect(codes.length).toBeGreaterThan(3);
    expect(codes.filter((code) => !(code in ERROR_CODES))).toEqual([]);
  });

  it('each have a part of the page that says what to do', () => {
    const headings = [...page.matchAll(/^### (\w+)$/gm)]
      .map(([, name]) => name!)
      .filter((name) => name.startsWith('Dekd'));
    expect(headings.sort()).toEqual(alerts.map(({ alert }) => alert).sort());
  });
});

describe('the page on observability', () => {
  it('lists every metric with its type, its labels and what it means, and no other', () => {
    const rows = [...page.matchAll(/^\| `((?:dekd|process)_[a-z_]+)` \| (\w+) \| ([^|]*) \| ([^|]+) \|$/gm)];
    const listed = rows.map(([, name, type, labels, help]) => [name, type, labels!.trim(), help!.trim()]);
    expect(listed).toEqual(
      [...FAMILIES].map(([name, { type, labels, help }]) => [
        name,
        type,
        labels.map((label) => `\`${label}\``).join(', '),
        help,
      ]),
    );
  });
});
