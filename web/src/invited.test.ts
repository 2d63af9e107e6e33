import { execFileSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { faults, script, wishes } from './invited';
import type { Schemas } from './schema';

// As the API describes it.
const schemas: Schemas = {
  InviteRequest: { type: 'object', properties: { nodes: { type: 'array', items: { $ref: '#/components/schemas/NodeWish' }, maxItems: 256 } } },
  NodeWish: {
    type: 'object',
    required: ['name'],
    additionalProperties: false,
    properties: {
      name: { type: 'string', minLength: 1, maxLength: 63, pattern: '^[A-Za-z0-9][A-Za-z0-9-]*$' },
      labels: { type: 'array', maxItems: 64, items: { type: 'string', minLength: 1, maxLength: 64, pattern: '^\\S+$' } },
    },
  },
};
const said = (text: string) => wishes(text, new Set(['node1']), schemas).faults.map(({ place, field, message }) => `${place?.line}: ${field} ${message}`);

it('nodes are read from a list, and each that is wrong is told with its line and field', () => {
  expect(wishes('[{"name": "gw1", "labels": ["zone=a"]}, {"name": "gw2"}]', new Set(), schemas).nodes).toEqual([{ name: 'gw1', labels: ['zone=a'] }, { name: 'gw2' }]);
  expect(said('[\n{"name": "gw1"},\n{"name": "gw1"},\n{"name": "node1"}]')).toEqual(['3: [1].name gw1 stands here twice', '4: [2].name there is a node named node1 already']);
  expect(said('[{"name": "a_b"},\n{"label": 1},\n{"name": "b", "labels": ["a b", 7]}]')).toEqual([
    "1: [0].name cannot be a node's name: use letters, digits and '-'",
    '2: [1].name is missing',
    '2: [1].label is not known here',
    '3: [2].labels[0] cannot be a label: use no spaces',
    '3: [2].labels[1] is 7, where a text is needed',
  ]);
  expect(said('[]')).toEqual(['1:  is empty']);
  expect(said('{"name": "a"}')).toEqual(['1:  is an object, where a list is needed']);
  expect(said('[{"name": "a"')).toEqual(['1:  "," or "}" is missing before the end of the text']);
  expect(said(JSON.stringify(Array.from({ length: 257 }, (_, i) => ({ name: `n${i}` }))))).toEqual(['1:  has more than 256']);
  expect(said('[null, 5]').length).toBe(2);
});

it('what the controller says is told at the same places', () => {
  const { places } = wishes('[{"name": "a"},\n{"name": "b"}]', new Set(), schemas);
  expect(faults([{ field: 'nodes[1].name', message: 'm' }], places)).toEqual([{ field: '[1].name', message: 'm', place: { line: 2, column: 10 } }]);
});

it('one script has a command for each machine', () => {
  const all = ['gw1', 'gw2'].map((name) => ({ name, join: `wf1-x@h:1`, command: `echo join ${name} && echo serve`, ttl: 3600 }));
  const file = join(mkdtempSync(join(tmpdir(), 'wayfare-join-')), 'join.sh');
  writeFileSync(file, script(all, new Date(0)));
  const run = (...args: string[]) => execFileSync('sh', [file, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  expect(run('gw2')).toBe('join gw2\nserve\n');
  expect(() => run('gw3')).toThrow(/no node named gw3 was invited: gw1 gw2/);
});
