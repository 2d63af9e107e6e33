// A long table of which only the rows that are seen exist.
import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';

export const ROW = 34;
/** Rows that are there are used again for others, by turns: to make new ones is what takes long. More than are ever seen. */
export const slot = (index: number) => index % 256;
/** Rows beyond the edges. */
const MORE = 8;

/** The rows from `first` up to `last` exist, for a window from `top` of this height. */
export function visible(top: number, height: number, count: number): { first: number; last: number } {
  const first = Math.max(0, Math.min(count, Math.floor(top / ROW)) - MORE);
  return { first, last: Math.max(first, Math.min(count, Math.ceil((top + height) / ROW) + MORE)) };
}

export function Rows<T>({
  items,
  head,
  row,
  columns,
  label,
}: {
  items: T[];
  head: ComponentChildren;
  row: (item: T, index: number) => ComponentChildren;
  columns: number;
  label: string;
}) {
  const ref = useRef<HTMLDivElement>(null);
  const [at, set] = useState({ top: 0, height: 900 });
  useEffect(() => {
    const element = ref.current!;
    const look = () => {
      const { first, last } = visible(element.scrollTop, element.clientHeight, 1e9);
      // Nothing is drawn anew while the rows that are there suffice.
      set((was) => {
        const had = visible(was.top, was.height, 1e9);
        return had.first === first && had.last === last ? was : { top: element.scrollTop, height: element.clientHeight };
      });
    };
    look();
    element.addEventListener('scroll', look, { passive: true });
    const observer = new ResizeObserver(look);
    observer.observe(element);
    return () => {
      element.removeEventListener('scroll', look);
      observer.disconnect();
    };
  }, []);
  const { first, last } = visible(at.top, at.height, items.length);
  const gap = (height: number) =>
    height > 0 && (
      <tr class="gap" aria-hidden="true">
        <td colSpan={columns} style={{ height: `${height}px` }} />
      </tr>
    );
  return (
    <div class="rows" ref={ref} tabIndex={0} role="region" aria-label={label}>
      <table aria-rowcount={items.length + 1}>
        <thead>{head}</thead>
        <tbody>
          {gap(first * ROW)}
          {items.slice(first, last).map((item, i) => row(item, first + i))}
          {gap((items.length - last) * ROW)}
        </tbody>
      </table>
    </div>
  );
}
