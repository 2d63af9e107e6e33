import { expect, it } from 'vitest';
import { check, type Schemas } from './schema';
import { wanted } from './wanted';

// The parts of the API's description that these tests are about, as it has them.
const schemas: Schemas = {
  Objective: { oneOf: [{ type: 'string', enum: ['makespan'] }, { type: 'string', enum: ['mean-response'] }] },
  SetRequest: {
    type: 'object',
    required: ['name', 'tasks'],
    properties: {
      name: { type: 'string', minLength: 1, maxLength: 48, pattern: '^[A-Za-z0-9_][A-Za-z0-9_.-]*$' },
      objective: { $ref: '#/components/schemas/Objective' },
      tasks: { type: 'array', minItems: 1, items: { $ref: '#/components/schemas/TaskRequest' } },
    },
    additionalProperties: false,
  },
  TaskRequest: {
    type: 'object',
    required: ['name', 'image'],
    properties: {
      name: { type: 'string', minLength: 1, maxLength: 48, pattern: '^[A-Za-z0-9_][A-Za-z0-9_.-]*$' },
      image: { type: 'string', pattern: '^[0-9a-fA-F]{64}$' },
      cores: { type: 'number', minimum: 0.01, maximum: 1024 },
      count: { type: 'integer', minimum: 1, maximum: 100_000 },
      env: { type: 'object', additionalProperties: { type: 'string' } },
      deadline: { type: ['number', 'null'] },
    },
    additionalProperties: false,
  },
};
const digest = 'ab'.repeat(32);
const program = { file: 'queens.wasm', digest };

const task = (more: string) => `{"name": "t", "image": "../queens.wasm"${more}}`;
const set = (...tasks: string[]) => wanted(`{"name": "s", "tasks": [\n${tasks.join(',\n')}\n]}`, [program], schemas);
const told = (...tasks: string[]) => set(...tasks).faults.map(({ field, message, place }) => `${place?.line} ${field} ${message}`);

it('programs are found by their names, and nothing else is changed', () => {
  const { set: made, faults } = set(task(', "count": 3, "deadline": null'));
  expect(faults).toEqual([]);
  expect(made).toEqual({ name: 's', tasks: [{ name: 't', image: digest, count: 3, deadline: null }] });
});

it('what is wrong is told by line, field and in words, all at once', () => {
  expect(told(task(''), task(', "cores": "four"'), task(', "colour": 1, "count": 1.5'))).toEqual([
    '3 tasks[1].cores is a text, where a number is needed',
    '4 tasks[2].colour is not known here',
    '4 tasks[2].count is 1.5, where a whole number is needed',
  ]);
  expect(told('{"name": "<script>", "image": "other.wasm"}')).toEqual([
    "2 tasks[0].name cannot be a name: use letters, digits, '-', '_' and '.'",
    '2 tasks[0].image "other.wasm" is no digest, and no program of this name was chosen',
  ]);
  expect(told(task(', "cores": 0, "env": {"A": 1}'), '7')).toEqual([
    '2 tasks[0].cores 0 is not 0.01 to 1024',
    '2 tasks[0].env.A is 1, where a text is needed',
    '3 tasks[1] is 7, where an object is needed',
  ]);
  expect(set().faults).toHaveLength(1);
});

it('what is no set at all is told, too', () => {
  for (const text of ['', '[]', 'null', '{"name": "s"}', '{"name": "s", "tasks": {}}', '{"name": "s", "tasks": []}']) {
    const { set, faults } = wanted(text, [], schemas);
    expect([set, faults.length > 0]).toEqual([undefined, true]);
  }
});

it('words that can be chosen are named', () => {
  const of = (objective: string) => check({ name: 's', objective, tasks: [{ name: 't', image: digest }] }, { $ref: 'SetRequest' }, schemas);
  expect(of('makespan')).toEqual([]);
  expect(of('fast')).toEqual([{ field: 'objective', message: 'is none of "makespan", "mean-response"' }]);
});
