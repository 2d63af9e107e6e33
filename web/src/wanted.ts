// What somebody has typed, on its way to a set that the controller takes: read, its programs found, checked, each with the place of
// what is wrong.
import type { SetRequest, Wrong } from './api';
import { find, read, Unreadable, type Place } from './json';
import { check, type Schemas } from './schema';

export interface Program {
  file: string;
  digest: string;
}
export interface Fault extends Wrong {
  place?: Place;
}
export interface Wanted {
  set?: SetRequest;
  faults: Fault[];
  places: Map<string, Place>;
}

const DIGEST = /^[0-9a-fA-F]{64}$/;

/** What a text says, and where; or the fault for which it says nothing. */
export function parsed(text: string): { value?: unknown; places: Map<string, Place>; fault?: Fault } {
  try {
    return read(text);
  } catch (e) {
    if (!(e instanceof Unreadable)) throw e;
    return { places: new Map(), fault: { field: '', message: e.message, place: e.place } };
  }
}

/** What is wrong, each at its place, in the order of the text. */
export function placed(wrong: Wrong[], places: Map<string, Place>): Fault[] {
  const faults = wrong.map((one) => ({ ...one, place: find(places, one.field) }));
  return faults.sort((a, b) => (a.place?.line ?? 0) - (b.place?.line ?? 0) || (a.place?.column ?? 0) - (b.place?.column ?? 0));
}

/** A set, of its text. An image is a digest, or the name of a program that was chosen: `wayfare submit` takes the same file. */
export function wanted(text: string, programs: Program[], schemas: Schemas): Wanted {
  const { value: said, places, fault } = parsed(text);
  if (fault) return { faults: [fault], places };
  let value = said;
  const missing: Wrong[] = [];
  const tasks = (value as { tasks?: unknown } | null)?.tasks;
  if (Array.isArray(tasks)) {
    const named = tasks.map((task: unknown, i) => {
      const image = (task as { image?: unknown } | null)?.image;
      if (typeof image !== 'string' || DIGEST.test(image)) return task;
      const file = image.split('/').pop();
      const program = programs.find((program) => program.file === file);
      if (program) return { ...(task as object), image: program.digest };
      missing.push({ field: `tasks[${i}].image`, message: `${JSON.stringify(image)} is no digest, and no program of this name was chosen` });
      return task;
    });
    value = { ...(value as object), tasks: named };
  }
  const isTold = new Set(missing.map((wrong) => wrong.field));
  const wrong = [...missing, ...check(value, { $ref: 'SetRequest' }, schemas).filter((wrong) => !isTold.has(wrong.field))];
  const faults = placed(wrong, places);
  return faults.length ? { faults, places } : { set: value as SetRequest, faults, places };
}
