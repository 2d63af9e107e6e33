// The API's own description of values: what is typed is checked by it.
import { useEffect, useState } from 'preact/hooks';
import type { Schemas } from './schema';
import { complain } from './ui';

/** Of nothing, until it is there. */
export function useDescription(): Schemas {
  const [known, set] = useState<Schemas>({});
  useEffect(() => {
    fetch('/openapi.json')
      .then((answer) => answer.json())
      .then((text) => set(text.components.schemas), complain);
  }, []);
  return known;
}
