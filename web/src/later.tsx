// Parts of the page that come when they are first looked at.
import type { ComponentType } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { complain } from './ui';

/** Such a part: charts, digests and editors are most of what there is to load. */
export function later<P extends object>(get: () => Promise<ComponentType<P>>): ComponentType<P> {
  let got: ComponentType<P> | undefined;
  return function Later(props: P) {
    const [Part, set] = useState(() => got);
    useEffect(() => {
      if (!got) get().then((part) => set(() => (got = part)), complain);
    }, []);
    return Part ? <Part {...props} /> : null;
  };
}
