import { describe, expect, it } from 'vitest';
import { find, read, Unreadable } from './json';

function fails(text: string): string {
  try {
    read(text);
  } catch (e) {
    if (e instanceof Unreadable) return `${e.place.line}:${e.place.column} ${e.message}`;
    throw e;
  }
  return 'it can be read';
}

describe('JSON is read', () => {
  it('as JSON.parse reads it', () => {
    for (const text of ['{}', '[]', ' null ', '-0.5e+3', '"a\\u00e9\\n"', '{"a": [1, {"b": true}], "__proto__": 3}', '[[], {}, ""]']) {
      expect(JSON.stringify(read(text).value)).toBe(JSON.stringify(JSON.parse(text)));
    }
  });
  it('with the place of each value', () => {
    const { places } = read('{\n  "tasks": [\n    {"cores": 1},\n    {"cores": "four"}\n  ]\n}');
    expect(places.get('tasks[1].cores')).toEqual({ line: 4, column: 15 });
    expect(find(places, 'tasks[1].memory')).toEqual({ line: 4, column: 5 });
    expect(find(places, 'name')).toEqual({ line: 1, column: 1 });
  });
  it('or what is wrong is told with its place', () => {
    const cases: [string, RegExp][] = [
      ['', /^1:1 .*begins no value/],
      ['{\n  "a": 1,\n}', /^3:1 a name in double quotes/],
      ['{\n  "a" 1}', /^2:7 ":" is missing before "1"/],
      ['[1\n 2]', /^2:2 "," or "\]" is missing before "2"/],
      ['{"a": 1', /^1:8 "," or "}" is missing before the end/],
      ['"abc', /^1:1 this string does not end/],
      ['["a\nb"]', /^1:2 a string ends on the line/],
      ['{"a": 1, "a": 2}', /^1:10 "a" stands here twice/],
      ['[01]', /begins no value/],
      ['[tru]', /begins no value/],
      ['{} x', /^1:4 "x" stands after the end/],
      ['"\\q"', /wrong after a \\/],
      ['['.repeat(100), /too deep/],
    ];
    for (const [text, message] of cases) expect(fails(text)).toMatch(message);
  });
  it('of a million characters', () => {
    // In a time that grows as its square this would not end before the test's patience does.
    const task = '{"name": "t", "image": "x", "args": ["1", "2"]},\n';
    const text = `[${task.repeat(20_000)}{}]`;
    expect(read(text).places.get('[20000]')?.line).toBe(20_001);
  }, 3_000);
});
