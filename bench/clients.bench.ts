/** Many connections to one agent: what they get together. */
import { AgentProcess } from './support/agent-process.ts';
import { Clients } from './support/clients.ts';
import type { Group, Subject } from './support/group.ts';
import { SCENARIOS, type ScenarioName } from './support/scenarios.ts';

const CONNECTIONS = [1, 2, 4, 8, 16, 32, 64];

function shared(scenario: ScenarioName): Group {
  const { items, size, width } = SCENARIOS[scenario];
  const name = (connections: number) => `clients/${scenario}/${connections}`;
  return {
    name: `clients ${scenario}`,
    baseline: name(1),
    async open() {
      const agent = await AgentProcess.start();
      const clients = new Map<number, Clients>();
      for (const connections of CONNECTIONS) {
        clients.set(connections, await Clients.start(agent.socket, scenario, connections));
      }
      const subjects = [...clients].map(
        ([connections, each]): Subject => ({
          name: name(connections),
          bytes: size,
          items: items * width * connections,
          work: (count) => each.calls(count * width * connections),
        }),
      );
      return {
        subjects,
        async close() {
          await Promise.all([...clients.values()].map((each) => each.stop()));
          await agent.stop();
        },
      };
    },
  };
}

export const groups: readonly Group[] = [shared('awaited'), shared('in-flight'), shared('batch')];
