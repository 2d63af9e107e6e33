// Reads JSON and remembers where each value stands, so that what is wrong with one is shown at its line. `JSON.parse` tells no
// places, and each browser has other words for what it does not understand.

export interface Place {
  line: number;
  column: number;
}
export interface Read {
  value: unknown;
  /** Where values stand, by paths as the API has them: `tasks[3].cores`; the whole is ``. */
  places: Map<string, Place>;
}
export class Unreadable extends Error {
  constructor(
    message: string,
    readonly place: Place,
  ) {
    super(message);
  }
}

const DEEP = 64;

export function read(text: string): Read {
  const places = new Map<string, Place>();
  let at = 0;
  // Lines are counted as it goes on: each place is asked for once, in order.
  let line = 1;
  let start = 0;
  let counted = 0;
  const place = (where = at): Place => {
    if (where < counted) [line, start, counted] = [1, 0, 0];
    for (; counted < where; counted++) if (text[counted] === '\n') [line, start] = [line + 1, counted + 1];
    return { line, column: where - start + 1 };
  };
  const fail = (message: string, where = at): never => {
    throw new Unreadable(message, place(where));
  };
  const space = () => {
    while (at < text.length && ' \t\r\n'.includes(text[at]!)) at++;
  };
  const shown = () => (at >= text.length ? 'the end of the text' : `"${text[at]}"`);

  const string = (): string => {
    const from = at++;
    for (; at < text.length && text[at] !== '"'; at++) {
      if (text[at] === '\\') at++;
      else if (text[at]! < ' ') fail('a string ends on the line where it begins', from);
    }
    if (at >= text.length) fail('this string does not end', from);
    at++;
    try {
      return JSON.parse(text.slice(from, at)) as string;
    } catch {
      return fail('there is something wrong after a \\ in this string', from);
    }
  };

  const value = (path: string, depth: number): unknown => {
    space();
    places.set(path, place());
    if (depth > DEEP) fail('this is too deep');
    const c = text[at];
    if (c === '"') return string();
    if (c === '{') {
      const object: Record<string, unknown> = {};
      at++;
      for (let first = true; ; first = false) {
        space();
        if (first && text[at] === '}') break;
        if (text[at] !== '"') fail(`a name in double quotes is missing before ${shown()}`);
        const where = at;
        const name = string();
        if (Object.hasOwn(object, name)) fail(`"${name}" stands here twice`, where);
        space();
        if (text[at] !== ':') fail(`":" is missing before ${shown()}`);
        at++;
        const child = value(path ? `${path}.${name}` : name, depth + 1);
        Object.defineProperty(object, name, { value: child, enumerable: true, configurable: true, writable: true });
        space();
        if (text[at] === '}') break;
        if (text[at] !== ',') fail(`"," or "}" is missing before ${shown()}`);
        at++;
      }
      at++;
      return object;
    }
    if (c === '[') {
      const list: unknown[] = [];
      at++;
      for (let first = true; ; first = false) {
        space();
        if (first && text[at] === ']') break;
        list.push(value(`${path}[${list.length}]`, depth + 1));
        space();
        if (text[at] === ']') break;
        if (text[at] !== ',') fail(`"," or "]" is missing before ${shown()}`);
        at++;
      }
      at++;
      return list;
    }
    const word = /^(?:true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w.])/.exec(text.slice(at, at + 400));
    if (!word) return fail(`${shown()} begins no value`);
    at += word[0].length;
    return JSON.parse(word[0]);
  };

  const whole = value('', 0);
  space();
  if (at < text.length) fail(`${shown()} stands after the end`);
  return { value: whole, places };
}

/** The place of a field, or of what it would be in. */
export function find(places: Map<string, Place>, field: string): Place | undefined {
  for (let path = field; ; path = path.replace(/(?:^|\.)[^.[\]]+$|\[\d+\]$/, '')) {
    const place = places.get(path);
    if (place || !path) return place;
  }
}
