// Nodes that somebody wants to invite: read, checked, each fault with its place; and what is to be typed on their machines.
import type { Invitation, NodeWish, Wrong } from './api';
import { find, type Place } from './json';
import { check, type Schemas } from './schema';
import { parsed, placed, type Fault } from './wanted';

export interface Wishes {
  nodes?: NodeWish[];
  faults: Fault[];
  places: Map<string, Place>;
}

/** A list of nodes, of its text: `wayfare node invite --nodes` takes the same. No two may have one name, nor the name of one that is there. */
export function wishes(text: string, known: { has(name: string): boolean }, schemas: Schemas): Wishes {
  const { value, places, fault } = parsed(text);
  if (fault) return { faults: [fault], places };
  const all = schemas.InviteRequest?.properties?.nodes ?? {};
  const wrong: Wrong[] = check(value, { ...all, minItems: 1 }, schemas);
  const seen = new Set<string>();
  for (const [i, node] of Array.isArray(value) ? value.entries() : []) {
    const name: unknown = node?.name;
    if (typeof name !== 'string') continue;
    const say = (message: string) => wrong.push({ field: `[${i}].name`, message });
    if (seen.has(name)) say(`${name} stands here twice`);
    else if (known.has(name)) say(`there is a node named ${name} already`);
    seen.add(name);
  }
  const faults = placed(wrong, places);
  return faults.length ? { faults, places } : { nodes: value as NodeWish[], faults, places };
}

/** What the controller says is wrong, at its place in the list. */
export function faults(errors: Wrong[], places: Map<string, Place>): Fault[] {
  return errors.map(({ field, message }) => {
    const at = field.replace(/^nodes(?=\[)/, '');
    return { field: at, message, place: find(places, at) };
  });
}

/** One file for all machines: each finds its own command by the node's name, which is its host's if none is said. */
export function script(all: Invitation[], until: Date): string {
  // Names are letters, digits and '-': none of them means anything to a shell.
  const lines = all.map(({ name, command }) => `${name})\n    ${command.replace(' && ', ' &&\n        ')}\n    ;;`);
  return `#!/bin/sh
# Makes this machine a node of the cluster: sh join.sh NAME. Without a name the host's counts.
# Each command is good once, and until ${until.toISOString()}.
set -eu
name=\${1:-$(uname -n)}
case "$name" in
${lines.join('\n')}
*)
    echo "$0: no node named $name was invited: ${all.map(({ name }) => name).join(' ')}" >&2
    exit 1
    ;;
esac
`;
}
